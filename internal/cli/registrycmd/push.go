package registrycmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/progress"
	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/transfer"
)

type pushFlags struct {
	compression, platform string
	level                 int
	force, all, quiet     bool
	given                 bool // --compression was
}

// NewPushCommand is `mica push`.
func NewPushCommand(app *command.App) *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] NAME[:TAG]",
		Short: "Upload an image to a registry",
		Args:  command.RequireArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.given = cmd.Flags().Changed("compression")
			return runPush(cmd.Context(), app, &f, args[0])
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all-tags", "a", false, "Push all tags of an image to the repository")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Suppress verbose output")
	fl.StringVar(&f.platform, "platform", "", "Push one platform of an image that has several")
	fl.StringVar(&f.compression, "compression", "gzip", "Compression of layers that have none: gzip, zstd, none")
	fl.IntVar(&f.level, "compression-level", 0, "Level of the compression: 1 to 9 for gzip, 1 to 22 for zstd")
	fl.BoolVar(&f.force, "force-compression", false, "Compress layers that are compressed already, too")
	fl.Bool("disable-content-trust", true, "Skip image signing (mica does not sign)")
	_ = fl.MarkHidden("disable-content-trust")
	return cmd
}

func (f *pushFlags) options() (transfer.PushOptions, error) {
	o := transfer.PushOptions{Compression: compression.Algorithm(f.compression), Level: f.level, Force: f.force}
	if err := compression.CheckLevel(o.Compression, o.Level); err != nil {
		return o, err
	}
	if o.Compression == compression.Estargz {
		return o, errors.New("estargz makes other layers, and with them another image: build with --output type=registry,compression=estargz")
	}
	if !f.given {
		o.Compression = ""
	}
	if f.platform != "" {
		list, all, err := command.ParsePlatforms([]string{f.platform})
		if err != nil || all {
			return o, err
		}
		o.Platform = &list[0]
	}
	return o, nil
}

func runPush(ctx context.Context, app *command.App, f *pushFlags, ref string) (err error) {
	name, err := command.RemoteName(ref)
	if err != nil {
		return err
	}
	if _, digested := name.(reference.Digested); digested {
		return errors.New("cannot push a digest reference")
	}
	if f.all && !reference.IsNameOnly(name) {
		return errors.New("tag can't be used with --all-tags/-a")
	}
	o, err := f.options()
	if err != nil {
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
	names := []reference.Named{reference.TagNameOnly(name)}
	if f.all {
		if names, err = localTags(ctx, app, name); err != nil {
			return err
		}
	} else if reference.IsNameOnly(name) && !f.quiet {
		fmt.Fprintf(app.Stderr, "Using default tag: latest\n")
	}
	if !f.quiet {
		fmt.Fprintf(app.Stderr, "The push refers to repository [%s]\n", reference.TrimNamed(name))
	}
	for _, n := range names {
		root, err := app.Images.Root(ctx, n.String())
		if err != nil {
			return fmt.Errorf("An image does not exist locally with the tag: %s", reference.FamiliarName(name)) //nolint:staticcheck // Docker's words
		}
		if err := push(ctx, app, n, root, o, f.quiet); err != nil {
			return err
		}
	}
	return nil
}

// localTags are the names that the images of a repository have here.
func localTags(ctx context.Context, app *command.App, name reference.Named) ([]reference.Named, error) {
	tagged, err := app.Images.RepositoryTags(ctx, name.String())
	if err != nil {
		return nil, err
	}
	if len(tagged) == 0 {
		return nil, fmt.Errorf("An image does not exist locally with the tag: %s", reference.FamiliarName(name)) //nolint:staticcheck // Docker's words
	}
	var names []reference.Named
	for _, t := range tagged {
		n, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

// push pushes the image or index with a name, and prints docker's lines.
func push(ctx context.Context, app *command.App, name reference.Named, root ocispec.Descriptor, o transfer.PushOptions, quiet bool) error {
	d := progress.NewLayers(app.Stderr.File(), dockerapi.PushWords, quiet)
	o.Progress = d.Update
	got, err := transfer.Push(ctx, app.Registry(), app.Local(), name, root, o)
	d.Finish()
	if err != nil {
		return err
	}
	if got.Reduced.Digest != "" && !quiet {
		fmt.Fprintf(app.Stderr, "Not all of the platforms of %s are in the store: only those that are were pushed\n", got.Reduced.Digest)
	}
	if quiet {
		fmt.Fprintln(app.Stdout, name)
		return nil
	}
	fmt.Fprintf(app.Stdout, "%s: digest: %s size: %d\n", command.TagOrDigest(name), got.Root.Digest, got.Root.Size)
	return nil
}
