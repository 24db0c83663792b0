package registrycmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/progress"
	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/ocilayout"
	"github.com/micabuild/mica/internal/transfer"
)

type copyFlags struct {
	platform         string
	referrers, quiet bool
}

// NewCopyCommand is `mica copy`.
func NewCopyCommand(app *command.App) *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "copy [OPTIONS] SOURCE DESTINATION",
		Short: "Copy an image between registries, layouts and archives, as it is",
		Long: "Copy an image between registries, layouts and archives, as it is. The store is not touched.\n\n" +
			"A SOURCE or DESTINATION is the name of an image at a registry, oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG] or " +
			"docker-archive:FILE[:NAME].",
		Args: command.RequireArgs(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCopy(cmd.Context(), app, &f, args[0], args[1])
		},
	}
	cmd.Flags().StringVar(&f.platform, "platform", "", "Copy one platform of an image that has several (default: all)")
	cmd.Flags().BoolVar(&f.referrers, "referrers", false, "Copy what refers to the image, too: signatures, attestations")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "Suppress verbose output")
	return cmd
}

func runCopy(ctx context.Context, app *command.App, f *copyFlags, from, to string) (err error) {
	o := transfer.CopyOptions{Referrers: f.referrers}
	if f.platform != "" && f.platform != "all" {
		list, _, err := command.ParsePlatforms([]string{f.platform})
		if err != nil {
			return err
		}
		o.Platform = &list[0]
	}
	src, name, err := openCopySource(ctx, app, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := openCopyDestination(ctx, app, to, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	d := progress.NewLayers(app.Stderr.File(), dockerapi.CopyWords, f.quiet)
	o.Progress = d.Update
	root, err := transfer.Copy(ctx, src, dst, o)
	d.Finish()
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	fmt.Fprintln(app.Stdout, root.Digest)
	return nil
}

// openCopySource opens a place to copy from. name is the full name of the image, if the place says so.
func openCopySource(ctx context.Context, app *command.App, s string) (_ transfer.Source, name string, err error) {
	at, ok, err := ocilayout.Parse(s)
	if err != nil {
		return nil, "", err
	}
	if ok {
		src, err := at.Open(ctx, os.TempDir())
		if err != nil {
			return nil, "", err
		}
		return src, "", nil
	}
	named, err := command.RemoteName(s)
	if err != nil {
		return nil, "", err
	}
	if _, digested := named.(reference.Digested); !digested {
		named = reference.TagNameOnly(named)
		name = named.String()
	}
	src, err := transfer.OpenSource(ctx, app.Registry(), named)
	return src, name, err
}

func openCopyDestination(ctx context.Context, app *command.App, s, name string) (transfer.Destination, error) {
	at, ok, err := ocilayout.Parse(s)
	if err != nil {
		return nil, err
	}
	if ok {
		dst, err := at.Create(ctx, ocilayout.CreateOptions{Name: name})
		if err != nil {
			return nil, err
		}
		return dst, nil
	}
	named, err := command.RemoteName(s)
	if err != nil {
		return nil, err
	}
	return transfer.OpenDestination(ctx, app.Registry(), reference.TagNameOnly(named))
}
