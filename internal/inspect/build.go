package inspect

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/replay"
)

// openRecorded opens the result of a build, or of a step of a build; nil if a name can be neither.
func (o *Opener) openRecorded(ctx context.Context, name string) (*Image, error) {
	builds := history.Open(o.Local.Store)
	ref, step, relative, isStep := history.SplitStep(name)
	if !isStep {
		ref, relative = name, strings.HasPrefix(name, "^")
	}
	if !relative && len(ref) < history.LeastRef {
		return nil, nil
	}
	b, err := builds.Find(ref)
	switch {
	case err != nil && relative:
		return nil, err
	case err != nil:
		return nil, nil //nolint:nilerr // the name may mean something else
	case isStep:
		return o.openStep(ctx, b, step)
	}
	return o.openBuild(ctx, b)
}

// openStep opens the result of a step. It has no history, and of its config only what a process in it gets is known.
func (o *Opener) openStep(ctx context.Context, b *history.Build, name string) (*Image, error) {
	step, err := b.SelectOne(name)
	if err != nil {
		return nil, err
	}
	st, err := replay.Find(ctx, o.Local.Store, o.Local.Layers, b, step)
	if errors.As(err, new(*replay.GoneError)) {
		err = fmt.Errorf("%w: it was pruned; mica build %s makes it again", err, b.Context)
	}
	if err != nil {
		return nil, err
	}
	img := &Image{Kind: Built, Build: b.Ref}
	img.Config.Config = st.Config
	img.setLayers(o, st.Chain, nil)
	return img, nil
}

// openBuild opens the image that a build has made.
func (o *Opener) openBuild(ctx context.Context, b *history.Build) (*Image, error) {
	if b.Image == "" {
		return nil, fmt.Errorf("build %s has made no image", b.Ref)
	}
	refs := []string{b.Image.String()}
	for _, name := range b.Names {
		if n, err := image.ParseName(name); err == nil {
			refs = append(refs, n.Name()+"@"+b.Image.String())
		}
	}
	for _, ref := range refs {
		img, err := o.Local.Images.FindFor(ctx, ref, o.Platform)
		if image.IsMissing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out, err := o.newStored(img, Built)
		if err == nil {
			out.Build = b.Ref
		}
		return out, err
	}
	return nil, fmt.Errorf("the image of build %s is not in the store: it was removed, or exported to another place", b.Ref)
}
