// Package registrycmd has the commands that work with registries: pull, push, copy, manifest, login and lists.
package registrycmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/transfer"
)

type pullFlags struct {
	platforms  []string
	all, quiet bool
}

// NewPullCommand is `mica pull`.
func NewPullCommand(app *command.App) *cobra.Command {
	var f pullFlags
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short: "Download an image from a registry",
		Args:  command.RequireArgs(1, 1),
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

func runPull(ctx context.Context, app *command.App, f *pullFlags, ref string) (err error) {
	name, err := command.RemoteName(ref)
	if err != nil {
		return err
	}
	var o transfer.PullOptions
	if o.Platforms, o.AllPlatforms, err = command.ParsePlatforms(f.platforms); err != nil {
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
		return pull(ctx, app, name, o, f.quiet)
	}
	if !reference.IsNameOnly(name) {
		return errors.New("tag can't be used with --all-tags/-a")
	}
	tags, err := app.Registry().Tags(ctx, name)
	if err != nil {
		return err
	}
	for _, t := range tags {
		tagged, err := reference.WithTag(name, t)
		if err != nil {
			return err
		}
		if err := pull(ctx, app, tagged, o, f.quiet); err != nil {
			return err
		}
	}
	return nil
}

// pull pulls one image, and prints docker's lines.
func pull(ctx context.Context, app *command.App, name reference.Named, o transfer.PullOptions, quiet bool) error {
	if err := app.Pull(ctx, app.Stdout, name, o, quiet); err != nil {
		return err
	}
	fmt.Fprintln(app.Stdout, name)
	return nil
}
