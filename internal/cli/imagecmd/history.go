package imagecmd

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/image"
)

type historyFlags struct {
	human, quiet, noTrunc bool
	format                string
}

// NewHistoryCommand is `mica history`.
func NewHistoryCommand(app *command.App) *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:               "history [OPTIONS] IMAGE",
		Short:             "Show the history of an image",
		Args:              command.RequireArgs(1, 1),
		ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runHistory(cmd.Context(), app, &f, args[0])
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.human, "human", "H", true, "Print sizes and dates in human readable format")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Only show image IDs")
	fl.BoolVar(&f.noTrunc, "no-trunc", false, "Don't truncate output")
	fl.StringVar(&f.format, "format", "", `Format output: "table", "table TEMPLATE", "json" or a Go template`)
	return cmd
}

func runHistory(ctx context.Context, app *command.App, f *historyFlags, ref string) error {
	if err := app.Open(ctx); err != nil {
		return err
	}
	img, err := app.Images.Find(ctx, ref)
	if err != nil {
		return err
	}
	items, err := app.Images.History(ctx, img)
	if err != nil {
		return err
	}
	out := formatter.Context{Output: app.Stdout, Format: f.template(), Trunc: !f.noTrunc}
	return out.Write(newHistoryRow(), func(print func(formatter.SubContext) error) error {
		for _, item := range items {
			if err := print(&historyRow{item: item, human: f.human, trunc: !f.noTrunc}); err != nil {
				return err
			}
		}
		return nil
	})
}

// template is the format, where none is given docker's table.
func (f *historyFlags) template() formatter.Format {
	switch {
	case f.format != "" && f.format != formatter.TableFormatKey:
		return formatter.Format(f.format)
	case f.quiet:
		return formatter.DefaultQuietFormat
	case !f.human:
		return "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
	}
	return "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
}

// historyRow is a line of history as templates see it, with the field names of docker history.
type historyRow struct {
	formatter.HeaderContext
	item         image.HistoryItem
	human, trunc bool
}

func newHistoryRow() *historyRow {
	r := &historyRow{}
	r.Header = formatter.SubHeaderContext{
		"ID": "IMAGE", "CreatedSince": formatter.CreatedSinceHeader, "CreatedAt": formatter.CreatedAtHeader,
		"CreatedBy": "CREATED BY", "Size": formatter.SizeHeader, "Comment": "COMMENT",
	}
	return r
}

// MarshalJSON is for --format json.
func (r *historyRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

// ID is the image's, or <missing>.
func (r *historyRow) ID() string {
	if r.trunc {
		return formatter.TruncateID(r.item.ID)
	}
	return r.item.ID
}

// CreatedAt is the time.
func (r *historyRow) CreatedAt() string {
	return time.Unix(r.item.Created.Unix(), 0).Format(time.RFC3339)
}

// CreatedSince is how long ago that was; times before 2000 are no times.
func (r *historyRow) CreatedSince() string {
	switch {
	case !r.human:
		return r.CreatedAt()
	case r.item.Created.Year() < 2000:
		return "N/A"
	}
	return units.HumanDuration(time.Since(r.item.Created.Truncate(time.Second))) + " ago"
}

// CreatedBy is the instruction.
func (r *historyRow) CreatedBy() string {
	by := strings.ReplaceAll(r.item.CreatedBy, "\t", " ")
	if r.trunc {
		return formatter.Ellipsis(by, 45)
	}
	return by
}

// Size is what the instruction added.
func (r *historyRow) Size() string {
	if r.human {
		return units.HumanSizeWithPrecision(float64(r.item.Size), 3)
	}
	return strconv.FormatInt(r.item.Size, 10)
}

// Comment is who made it.
func (r *historyRow) Comment() string { return r.item.Comment }
