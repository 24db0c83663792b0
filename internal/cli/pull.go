package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/transfer"
)

type pullFlags struct {
	platforms  []string
	all, quiet bool
}

func newPullCommand(app *App) *cobra.Command {
	var f pullFlags
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short: "Download an image from a registry",
		Args:  requireArgs(1, 1),
		RunE:  func(cmd *cobra.Command, args []string) error { return runPull(cmd.Context(), app, &f, args[0]) },
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.platforms, "platform", nil, `Platforms to pull if the image has several, or "all" (default: this host's)`)
	fl.BoolVarP(&f.all, "all-tags", "a", false, "Download all tagged images in the repository")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Suppress verbose output")
	fl.Bool("disable-content-trust", true, "Skip image verification (mica verifies digests, always)")
	_ = fl.MarkHidden("disable-content-trust")
	return cmd
}

func runPull(ctx context.Context, app *App, f *pullFlags, ref string) (err error) {
	name, err := remoteName(ref)
	if err != nil {
		return err
	}
	var o transfer.PullOptions
	if o.Platforms, o.AllPlatforms, err = parsePlatforms(f.platforms); err != nil {
		return err
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	use, err := app.Store.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	if !f.all {
		if reference.IsNameOnly(name) {
			name = reference.TagNameOnly(name)
			if !f.quiet {
				fmt.Fprintf(app.Stderr, "Using default tag: latest\n")
			}
		}
		return app.pull(ctx, name, o, f.quiet)
	}
	if !reference.IsNameOnly(name) {
		return errors.New("tag can't be used with --all-tags/-a")
	}
	tags, err := app.registry().Tags(ctx, name)
	if err != nil {
		return err
	}
	for _, t := range tags {
		tagged, err := reference.WithTag(name, t)
		if err != nil {
			return err
		}
		if err := app.pull(ctx, tagged, o, f.quiet); err != nil {
			return err
		}
	}
	return nil
}

// pull pulls one image, with docker's words about it.
func (a *App) pull(ctx context.Context, name reference.Named, o transfer.PullOptions, quiet bool) error {
	if err := a.pullTo(ctx, a.Stdout, name, o, quiet); err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout, name)
	return nil
}

// pullTo is pull with the summary on w.
func (a *App) pullTo(ctx context.Context, w io.Writer, name reference.Named, o transfer.PullOptions, quiet bool) error {
	d := newLayerDisplay(a.Stderr.File(), pullWords, quiet)
	o.Progress = d.progress
	d.say(tagOrDigest(name), "Pulling from %s", reference.Path(name))
	got, err := transfer.Pull(ctx, a.registry(), a.local(), name, o)
	d.finish()
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

func tagOrDigest(name reference.Named) string {
	if d, ok := name.(reference.Digested); ok {
		return d.Digest().String()
	}
	if t, ok := name.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// remoteName is a name as Docker resolves it.
func remoteName(ref string) (reference.Named, error) {
	name, err := image.ParseName(strings.TrimPrefix(ref, "docker://"))
	if err != nil {
		return nil, fmt.Errorf("invalid reference format: %q: %w", ref, err)
	}
	return name, nil
}

// parsePlatforms reads --platform: several, or "all".
func parsePlatforms(list []string) (parsed []ocispec.Platform, all bool, err error) {
	for _, s := range list {
		if s == "all" {
			return nil, true, nil
		}
		p, err := platforms.Parse(s)
		if err != nil {
			return nil, false, fmt.Errorf("invalid platform %q: %w", s, err)
		}
		parsed = append(parsed, platforms.Normalize(p))
	}
	return parsed, false, nil
}
