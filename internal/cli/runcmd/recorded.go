package runcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/replay"
)

// subject is what a command runs in.
type subject struct {
	image   *image.Image
	shells  [][]string // to run in place of a command; nil for a command
	release func() error
}

// subject finds the image or the step that the first argument names.
func (f *runFlags) subject(ctx context.Context, app *command.App, args []string) (*subject, error) {
	b, step, err := recorded(ctx, app, args[0])
	if err != nil {
		return nil, err
	}
	if step == nil {
		img, hold, err := f.image(ctx, app, args[0])
		if err != nil {
			return nil, err
		}
		return &subject{image: img, release: hold.Unlock}, nil
	}
	img, shells, err := replayed(ctx, app, b, step)
	if err != nil {
		return nil, err
	}
	s := &subject{image: img, release: func() error { return nil }}
	if len(args) > 1 || f.entrypoint != "" {
		return s, nil
	}
	if !f.tty && !f.interactive {
		f.tty = command.IsTerminal(app.Stdin) && app.Stdout.IsTerminal()
		f.interactive = f.tty
	}
	if !f.tty && !f.interactive {
		return nil, errors.New("a shell needs a terminal: without one, name a command to run in the step")
	}
	img.Config.Config.Cmd, s.shells = shells[0], shells
	return s, nil
}

// recorded finds the step of an earlier build that an argument BUILD:STEP names; nil if it is the name of an image.
func recorded(ctx context.Context, app *command.App, arg string) (*history.Build, *history.Step, error) {
	name, step, relative, ok := history.SplitStep(arg)
	if !ok && strings.HasPrefix(arg, "^") {
		return nil, nil, fmt.Errorf("%s names no step of the build: use %[1]s:LINE (mica builds inspect %[1]s lists the steps)", arg)
	}
	if !ok {
		return nil, nil, nil
	}
	if !relative {
		if _, err := app.Images.FindFor(ctx, arg, nil); err == nil || !image.IsMissing(err) {
			return nil, nil, nil
		}
	}
	b, err := history.Open(app.Store).Find(name)
	if errors.Is(err, history.ErrNotFound) && !relative {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := b.SelectOne(step)
	return b, s, err
}

// replayed is the result of a step as an image, and the shells that it may have.
func replayed(ctx context.Context, app *command.App, b *history.Build, step *history.Step) (*image.Image, [][]string, error) {
	st, err := replay.Find(ctx, app.Store, app.Layers, b, step)
	var gone *replay.GoneError
	if errors.As(err, &gone) {
		err = fmt.Errorf("%w: it was pruned, or has stayed in a remote cache; mica build %s without --cache-from makes it again", err, b.Context)
	}
	if err != nil {
		return nil, nil, err
	}
	if st.Before {
		fmt.Fprintf(app.Stderr, "NOTE: step %s has no result: this is what it began with\n", step.Name)
	}
	if len(st.Hidden) > 0 {
		fmt.Fprintf(app.Stderr, "NOTE: the values of build arguments that may be secrets are not recorded: %s\n", strings.Join(st.Hidden, ", "))
	}
	img := &image.Image{Config: dockerspec.DockerOCIImage{Image: ocispec.Image{RootFS: ocispec.RootFS{DiffIDs: st.Chain}}, Config: st.Config}}
	return img, container.Shells(st.Command), nil
}
