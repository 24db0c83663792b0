package command

import (
	"context"
	"fmt"
	"io"

	"github.com/distribution/reference"

	"github.com/micabuild/mica/internal/cli/progress"
	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/transfer"
)

// Pull pulls one image with docker's progress, and its summary on w.
func (a *App) Pull(ctx context.Context, w io.Writer, name reference.Named, o transfer.PullOptions, quiet bool) error {
	d := progress.NewLayers(a.Stderr.File(), dockerapi.PullWords, quiet)
	o.Progress = d.Update
	d.Say(TagOrDigest(name), "Pulling from %s", reference.Path(name))
	got, err := transfer.Pull(ctx, a.Registry(), a.Local(), name, o)
	d.Finish()
	if err != nil {
		return err
	}
	if !quiet {
		fmt.Fprintf(w, "Digest: %s\n", got.Root.Digest)
		status := "Image is up to date for"
		if got.Fresh {
			status = "Downloaded newer image for"
		}
		fmt.Fprintf(w, "Status: %s %s\n", status, reference.FamiliarString(name))
	}
	return nil
}
