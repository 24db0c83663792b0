package explorecmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/attest"
	"github.com/micabuild/mica/internal/catalog"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/sbom"
	"github.com/micabuild/mica/internal/version"
)

// sbomFormats are the values of --format. The short names are those of syft.
var sbomFormats = map[string]func(w io.Writer, s *sbom.Subject, packages []catalog.Package) error{
	"table":          writeTable,
	"json":           writeJSON,
	"spdx-json":      writeSPDX,
	"spdx":           writeSPDX,
	"cyclonedx-json": writeCycloneDX,
	"cyclonedx":      writeCycloneDX,
}

type sbomFlags struct{ format, output, platform string }

// NewSBOMCommand is `mica sbom`.
func NewSBOMCommand(app *command.App) *cobra.Command {
	var f sbomFlags
	cmd := &cobra.Command{
		Use:   "sbom [OPTIONS] IMAGE",
		Short: "List the packages of an image",
		Long: "List the packages that are installed in an image, as a table or as a software bill of materials: those of dpkg, apk and rpm, of " +
			"Python, npm and RubyGems, the modules of Go and Rust binaries, and Java archives.\n\nIMAGE may also be a name in a registry, an archive, " +
			"an OCI layout, a build or a directory.",
		Args:              command.RequireArgs(1, 1),
		ValidArgsFunction: app.CompleteImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return runSBOM(cmd.Context(), app, &f, args[0]) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.format, "format", "table", `Format output: "table", "json", "spdx-json" or "cyclonedx-json"`)
	fl.StringVarP(&f.output, "output", "o", "", "Write to a file, instead of STDOUT")
	fl.StringVar(&f.platform, "platform", "", "Platform of the image if it has several (default: this host's)")
	return cmd
}

func runSBOM(ctx context.Context, app *command.App, f *sbomFlags, name string) (err error) {
	write := sbomFormats[f.format]
	if write == nil {
		return &command.UsageError{Err: fmt.Errorf("invalid format %q: use table, json, spdx-json or cyclonedx-json", f.format)}
	}
	platform, err := command.ParsePlatform(f.platform)
	if err != nil {
		return err
	}
	opener, err := newOpener(ctx, app, platform)
	if err != nil {
		return err
	}
	img, err := opener.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	c := &catalog.Cataloguer{Store: app.Store, Program: app.Catalog}
	found, err := c.Chain(ctx, img.Chain(), img.View)
	if err != nil {
		return fmt.Errorf("sbom of %s: %w", name, err)
	}
	for _, s := range found.Skipped {
		_, _ = fmt.Fprintf(app.Stderr, "WARNING: not catalogued: %s\n", s)
	}
	return app.WritePrivate(f.output, func(w io.Writer) error { return write(w, subjectOf(img), found.Packages) })
}

func subjectOf(img *inspect.Image) *sbom.Subject {
	s := &sbom.Subject{Name: img.Name, Digest: img.Target.Digest, Version: version.String()}
	if at := img.Config.Created; at != nil {
		s.Created = at.UTC().Truncate(time.Second)
	}
	id := strings.TrimPrefix(img.Name, "sha256:")
	named, err := image.ParseName(img.Name)
	isName := img.Kind == inspect.Published || img.Kind == inspect.Stored && !strings.HasPrefix(img.ID.Encoded(), id)
	if err != nil || !isName || s.Digest == "" {
		return s
	}
	list, err := attest.Subjects([]string{reference.TagNameOnly(named).String()}, img.Platform(), s.Digest)
	if err == nil {
		s.PURL = list[0].Name
	}
	return s
}

func writeSPDX(w io.Writer, s *sbom.Subject, packages []catalog.Package) error {
	return writeDocument(w, s, packages, sbom.SPDX)
}

func writeCycloneDX(w io.Writer, s *sbom.Subject, packages []catalog.Package) error {
	return writeDocument(w, s, packages, sbom.CycloneDX)
}

func writeDocument(w io.Writer, s *sbom.Subject, packages []catalog.Package,
	document func(*sbom.Subject, []catalog.Package, bool) ([]byte, error),
) error {
	data, err := document(s, packages, true)
	if err == nil {
		_, err = w.Write(data)
	}
	return err
}

func writeJSON(w io.Writer, _ *sbom.Subject, packages []catalog.Package) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if packages == nil {
		packages = []catalog.Package{}
	}
	return enc.Encode(packages)
}

// writeTable writes the table of `docker sbom`. A package that several files have is one line.
func writeTable(w io.Writer, _ *sbom.Subject, packages []catalog.Package) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "NAME\tVERSION\tTYPE")
	lines := make([]string, len(packages))
	for i, p := range packages {
		lines[i] = strings.Join([]string{cell(p.Name), cell(p.Version), cell(p.Type)}, "\t")
	}
	slices.Sort(lines)
	for _, l := range slices.Compact(lines) {
		_, _ = fmt.Fprintln(t, l)
	}
	return t.Flush() // the first error of all writes
}

// cell is a text without what separates cells and lines, and not so long that it hides the next.
func cell(s string) string {
	const most = 128
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most-1]) + "…"
	}
	return s
}
