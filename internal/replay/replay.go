// Package replay finds what a step of a recorded build has left: its layers, which must still be in the store, and the environment, user
// and directory of its place in the Dockerfile.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
)

// State is what a step has left.
type State struct {
	Chain  []digest.Digest
	Config dockerspec.DockerOCIImageConfig // Env, User and WorkingDir
	// Command is that of a RUN at this place. It begins with the shell of the image.
	Command []string
	// Before is set for a step without a result, which has failed: the state is the one that it began with.
	Before bool
	// Hidden are the build arguments whose values are not recorded. They are empty in the environment.
	Hidden []string
}

// GoneError is the error for a step whose result is not in the store.
type GoneError struct{ Step string }

func (e *GoneError) Error() string {
	return fmt.Sprintf("the result of step %s is not in the store", e.Step)
}

// Find returns the state of a step. The caller holds store.Use for as long as it uses the layers.
func Find(ctx context.Context, s *store.Store, layers *layer.Layers, b *history.Build, step *history.Step) (*State, error) {
	f := &finder{cache: buildcache.New(s), layers: layers, build: b}
	st := &State{Before: step.Output == ""}
	from := step
	if st.Before {
		if from = f.below(step); from == nil && len(step.Inputs) > 0 {
			return nil, fmt.Errorf("step %s was not reached", step.Name)
		}
	}
	if from != nil {
		chain, err := f.chain(from)
		if err != nil {
			return nil, err
		}
		st.Chain = chain.DiffIDs()
	}
	for _, id := range st.Chain {
		if l, err := layers.Get(id); err != nil || !l.Present() {
			return nil, &GoneError{step.Name}
		}
	}
	return st, compile(ctx, b, step, st)
}

// finder finds the layers of steps.
type finder struct {
	cache  *buildcache.Cache
	layers *layer.Layers
	build  *history.Build
}

// below returns the step that a step without a result is built on: its first input. It is nil if the step is built on nothing, or if
// the input has no result either.
func (f *finder) below(step *history.Step) *history.Step {
	if len(step.Inputs) == 0 {
		return nil
	}
	if in := f.build.Step(step.Inputs[0]); in != nil && in.Output != "" {
		return in
	}
	return nil
}

// chain returns the layers of the result of a step, which the record has the ChainID of.
func (f *finder) chain(step *history.Step) (buildcache.Chain, error) {
	chain, err := f.recorded(step)
	if err == nil && chain.ID() != step.Output || errors.Is(err, fs.ErrNotExist) {
		err = &GoneError{step.Name}
	}
	return chain, err
}

func (f *finder) recorded(step *history.Step) (buildcache.Chain, error) {
	switch {
	case step.Source != nil && len(step.Source.Layers) > 0:
		var chain buildcache.Chain
		for _, id := range step.Source.Layers {
			chain = chain.On(buildcache.Link{DiffID: id})
		}
		return chain, nil
	case step.Key != "":
		return f.cache.First(step.Key)
	}
	// An operation without a key joins the layers of its inputs.
	var chain buildcache.Chain
	for _, d := range step.Inputs {
		in := f.build.Step(d)
		if in == nil || in.Output == "" {
			return chain, fs.ErrNotExist
		}
		more, err := f.chain(in)
		if err != nil {
			return chain, err
		}
		chain = chain.On(more.Links()...)
	}
	return chain, nil
}
