package imagecmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/cli/command/formatter/tabwriter"
	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/oci"
)

// printTree shows each image with its platform and, below it, its layers, newest first, with what made them.
func printTree(ctx context.Context, app *command.App, images []*image.Image, noTrunc bool) error {
	w := tabwriter.NewWriter(app.Stdout, 10, 1, 3, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tID\tSIZE\tCREATED BY")
	for i, img := range images {
		if i > 0 {
			fmt.Fprintln(w, "\t\t\t")
		}
		names := img.Names
		if len(names) == 0 {
			names = []string{"<untagged>"}
		}
		id := img.ShortID()
		if noTrunc {
			id = img.ID.String()
		}
		for _, n := range names {
			fmt.Fprintf(w, "%s\t%s\t%s\t\n", n, id, units.HumanSizeWithPrecision(float64(img.Size), 3))
		}
		if err := printPlatforms(ctx, app, w, img, noTrunc); err != nil {
			return err
		}
	}
	return w.Flush()
}

// printPlatforms shows the platforms of an image: its own, or those of the index that its name refers to. Those that are
// not in the store have no ID.
func printPlatforms(ctx context.Context, app *command.App, w *tabwriter.Writer, img *image.Image, noTrunc bool) error {
	parts := []image.Part{{Image: img}}
	if oci.IsIndex(img.Root.MediaType) {
		var err error
		if parts, err = app.Images.Parts(img.Root); err != nil {
			return err
		}
	}
	for i, p := range parts {
		branch, trunk := "├─", "│  "
		if i == len(parts)-1 {
			branch, trunk = "└─", "   "
		}
		switch {
		case len(parts) == 1:
			fmt.Fprintf(w, "%s %s\t\t\t\n", branch, platforms.Format(img.Config.Platform))
		case p.Image == nil:
			fmt.Fprintf(w, "%s %s\t\t\tnot pulled\n", branch, platformName(p.Descriptor.Platform))
			continue
		default:
			id := p.Image.ShortID()
			if noTrunc {
				id = p.Image.ID.String()
			}
			fmt.Fprintf(w, "%s %s\t%s\t%s\t\n", branch, platformName(p.Descriptor.Platform), id, units.HumanSizeWithPrecision(float64(p.Image.Size), 3))
		}
		if err := printLayers(ctx, app, w, p.Image, trunk, noTrunc); err != nil {
			return err
		}
	}
	return nil
}

func platformName(p *ocispec.Platform) string {
	if p == nil {
		return "unknown"
	}
	return platforms.Format(*p)
}

func printLayers(ctx context.Context, app *command.App, w *tabwriter.Writer, img *image.Image, trunk string, noTrunc bool) error {
	history, err := app.Images.History(ctx, img)
	if err != nil {
		return err
	}
	chain := img.Chain()
	var by []string
	for i, h := range img.Config.History {
		if !h.EmptyLayer {
			by = append(by, history[len(history)-1-i].CreatedBy)
		}
	}
	for i := len(chain) - 1; i >= 0; i-- {
		l, err := app.Layers.Get(chain[i])
		if err != nil {
			return err
		}
		branch := "├─"
		if i == 0 {
			branch = "└─"
		}
		id, made := chain[i].Encoded()[:12], ""
		if i < len(by) {
			made = strings.ReplaceAll(by[i], "\t", " ")
		}
		if noTrunc {
			id = chain[i].String()
		} else {
			made = formatter.Ellipsis(made, 60)
		}
		fmt.Fprintf(w, "%s%s layer\t%s\t%s\t%s\n", trunk, branch, id, units.HumanSizeWithPrecision(float64(l.Size), 3), made)
	}
	return nil
}
