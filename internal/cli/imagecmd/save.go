package imagecmd

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/transfer"
)

// NewSaveCommand is `mica save`.
func NewSaveCommand(app *command.App) *cobra.Command {
	var output string
	var platforms []string
	cmd := &cobra.Command{
		Use:               "save [OPTIONS] IMAGE [IMAGE...]",
		Short:             "Save one or more images to a tar archive (streamed to STDOUT by default)",
		Args:              command.RequireArgs(1, -1),
		ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSave(cmd.Context(), app, output, platforms, args)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, `Save only the given platform(s) (e.g., "linux/amd64,linux/arm64/v8")`)
	return cmd
}

func runSave(ctx context.Context, app *command.App, output string, platforms, refs []string) (err error) {
	wanted, _, err := command.ParsePlatforms(platforms)
	if err != nil {
		return err
	}
	if output == "" && app.Stdout.IsTerminal() {
		return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	use, err := app.Store.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	items, err := saveItems(ctx, app, refs, wanted)
	if err != nil {
		return err
	}
	return app.WritePrivate(output, func(w io.Writer) error { return app.Local().Save(ctx, w, items) })
}

// saveItems finds what is to be saved, as docker save does: a name with its tag, a repository with all of its tags, an ID
// without a name. Of an index, these are the platforms in the store, or the given ones.
func saveItems(ctx context.Context, app *command.App, refs []string, wanted []ocispec.Platform) ([]transfer.Item, error) {
	var items []transfer.Item
	add := func(ref, name string) error {
		it, err := saveItem(ctx, app, ref, wanted)
		if err != nil {
			return err
		}
		if name == "" {
			name = nameOf(app, ref)
		}
		i := slices.IndexFunc(items, func(other transfer.Item) bool {
			return other.Image.ID == it.Image.ID && other.Root.Digest == it.Root.Digest
		})
		if i < 0 {
			i, items = len(items), append(items, *it)
		}
		if name != "" {
			items[i].Names = append(items[i].Names, name)
		}
		return nil
	}
	for _, ref := range refs {
		tagged, err := app.RepositoryTags(ctx, ref)
		if err != nil {
			return nil, err
		}
		for _, t := range tagged {
			if err := add(t, t); err != nil {
				return nil, err
			}
		}
		if len(tagged) > 0 {
			continue
		}
		if err := add(ref, ""); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// saveItem returns the image or index that a name refers to.
func saveItem(ctx context.Context, app *command.App, ref string, wanted []ocispec.Platform) (*transfer.Item, error) {
	it := &transfer.Item{Platforms: wanted}
	for i := range max(1, len(wanted)) {
		var want *ocispec.Platform
		if len(wanted) > 0 {
			want = &wanted[i]
		}
		img, err := app.Images.FindFor(ctx, ref, want)
		if err != nil {
			return nil, err
		}
		if it.Image == nil {
			it.Image = img
		}
	}
	if len(wanted) != 1 && oci.IsIndex(it.Image.Root.MediaType) {
		it.Root = it.Image.Root
	}
	return it, nil
}

// nameOf is the full name that was typed; "" for an ID, or a name by digest.
func nameOf(app *command.App, ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ""
	}
	full, ok := reference.TagNameOnly(named).(reference.NamedTagged)
	if !ok {
		return ""
	}
	if _, digested := named.(reference.Digested); digested {
		return ""
	}
	if _, err := app.Store.Names().Get(full.String()); err != nil {
		return ""
	}
	return full.String()
}
