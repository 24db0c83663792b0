package diffcmd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/imagediff"
)

// marks stand before what was added, removed or changed.
var marks = map[imagediff.Change]string{imagediff.Added: "+", imagediff.Removed: "-", imagediff.Changed: "~", "": " "}

// maxCreatedBy is how much of the line of history stands beside a layer. The history has all of it.
const maxCreatedBy = 60

// printReport prints a report, the summary first.
func printReport(w io.Writer, r *imagediff.Report) {
	fmt.Fprintf(w, "--- %s\n+++ %s\n", subject(r.A), subject(r.B))
	printSummary(w, r)
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note:     "+oneLine(note))
	}
	if r.Causes != nil {
		printCauses(w, r)
		return
	}
	if r.Config != nil && len(r.Config.Changes) > 0 {
		fmt.Fprint(w, "\nConfig\n")
		for _, c := range r.Config.Changes {
			printConfig(w, c)
		}
	}
	if r.History != nil && len(r.History.Changes) > 0 {
		fmt.Fprint(w, "\nHistory\n")
		for _, c := range r.History.Changes {
			printHistory(w, c)
		}
	}
	if r.Layers != nil && r.Layers.Added.Count+r.Layers.Removed.Count > 0 {
		fmt.Fprint(w, "\nLayers\n")
		printLayers(w, r.Layers)
	}
	if r.Packages != nil && len(r.Packages.Changes) > 0 {
		fmt.Fprint(w, "\nPackages\n")
		for _, c := range r.Packages.Changes {
			fmt.Fprintf(w, "  %s %s %s  %s\n", marks[c.Change], oneLine(c.Type), oneLine(c.Name), oneLine(versionChange(c)))
		}
	}
	if r.Files != nil && len(r.Files.Changes) > 0 {
		fmt.Fprint(w, "\nFiles\n")
		printFiles(w, r.Files.Changes)
	}
}

func subject(s imagediff.Subject) string {
	text := s.Name
	if s.ID != "" {
		text += fmt.Sprintf(" (%s, %s, %s)", s.Kind, short(s.ID), oneLine(s.Platform))
	} else {
		text += fmt.Sprintf(" (%s)", s.Kind)
	}
	return text
}

func printSummary(w io.Writer, r *imagediff.Report) {
	if r.Same {
		fmt.Fprintln(w, "No differences.")
	}
	if r.Config != nil {
		fmt.Fprintf(w, "config:   %s\n", changeCount(r.Config.Changes, func(c imagediff.ConfigChange) imagediff.Change { return c.Change }))
	}
	if r.History != nil {
		fmt.Fprintf(w, "history:  %s\n", changeCount(r.History.Changes, func(c imagediff.HistoryChange) imagediff.Change { return c.Change }))
	}
	if l := r.Layers; l != nil {
		ignored := ""
		if r.Same && l.Added.Count+l.Removed.Count > 0 {
			ignored = ", which differ in what is ignored"
		}
		fmt.Fprintf(w, "layers:   %s shared%s, %s removed, %s added%s\n", layerSum(l.Shared), recompressed(l), layerSum(l.Removed), layerSum(l.Added), ignored)
	}
	if p := r.Packages; p != nil {
		fmt.Fprintf(w, "packages: %s\n", changeCount(p.Changes, func(c imagediff.PackageChange) imagediff.Change { return c.Change }))
	}
	if f := r.Files; f != nil {
		fmt.Fprintf(w, "files:    %s\n", fileSums(f))
	}
}

// versionChange is what changed of a package: "1.0 → 1.1".
func versionChange(c imagediff.PackageChange) string {
	old, now := strings.Join(c.Old, ", "), strings.Join(c.New, ", ")
	if c.Change == imagediff.Changed {
		return old + " → " + now
	}
	return old + now
}

// changeCount counts changes: "1 added, 2 changed".
func changeCount[T any](list []T, change func(T) imagediff.Change) string {
	counts := map[imagediff.Change]int{}
	for _, c := range list {
		counts[change(c)]++
	}
	var parts []string
	for _, kind := range []imagediff.Change{imagediff.Added, imagediff.Removed, imagediff.Changed} {
		if n := counts[kind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, kind))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "same")
}

func layerSum(s imagediff.LayerSum) string {
	if s.Count == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", s.Count, units.HumanSize(float64(s.Size)))
}

// recompressed says how many of the layers of both images are compressed in another way.
func recompressed(l *imagediff.LayersReport) string {
	n := 0
	for _, layer := range l.Layers {
		if layer.OtherBlob != "" {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of them compressed in another way", n)
}

func fileSums(f *imagediff.FilesReport) string {
	var parts []string
	if f.Added.Count > 0 {
		parts = append(parts, fmt.Sprintf("%d added (%s)", f.Added.Count, units.HumanSize(float64(f.Added.Size))))
	}
	if f.Removed.Count > 0 {
		parts = append(parts, fmt.Sprintf("%d removed (%s)", f.Removed.Count, units.HumanSize(float64(f.Removed.Size))))
	}
	if f.Changed.Count > 0 {
		parts = append(parts, fmt.Sprintf("%d changed (%s)", f.Changed.Count, signed(f.Changed.Size)))
	}
	return cmp.Or(strings.Join(parts, ", "), "same")
}

// signed is a difference of sizes.
func signed(n int64) string {
	if n < 0 {
		return "-" + units.HumanSize(float64(-n))
	}
	return "+" + units.HumanSize(float64(n))
}

func short(d digest.Digest) string {
	hex := d.Encoded()
	return hex[:min(len(hex), 12)]
}

// oneLine is a text without line breaks.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func printConfig(w io.Writer, c imagediff.ConfigChange) {
	name := quoted(c.Field)
	if c.Key != "" {
		name += " " + quoted(c.Key)
	}
	switch c.Change {
	case imagediff.Added:
		fmt.Fprintf(w, "  + %s: %s\n", name, value(c.New))
	case imagediff.Removed:
		fmt.Fprintf(w, "  - %s: %s\n", name, value(c.Old))
	default:
		fmt.Fprintf(w, "  ~ %s: %s → %s\n", name, value(c.Old), value(c.New))
	}
}

// value is a value of a config. A set has only keys.
func value(raw json.RawMessage) string {
	var text strings.Builder
	for line := range strings.Lines(string(raw)) {
		text.WriteString(strings.TrimSpace(line))
	}
	return text.String()
}

func printLayers(w io.Writer, r *imagediff.LayersReport) {
	for _, l := range r.Layers {
		fmt.Fprintf(w, "  %s %s  %8s  %s\n", marks[l.Change], short(l.DiffID), units.HumanSize(float64(l.Size)), formatter.Ellipsis(oneLine(l.CreatedBy), maxCreatedBy))
	}
}

func printHistory(w io.Writer, c imagediff.HistoryChange) {
	line := cmp.Or(c.New, c.Old)
	text := oneLine(cmp.Or(line.CreatedBy, line.Comment))
	var details []string
	for _, field := range c.Fields {
		details = append(details, historyField(field, c.Old, c.New))
	}
	if len(details) > 0 {
		text += "  (" + strings.Join(details, ", ") + ")"
	}
	fmt.Fprintf(w, "  %s %s\n", marks[c.Change], text)
}

// historyField says how two lines of history differ in a field.
func historyField(field string, old, now *imagediff.HistoryLine) string {
	switch field {
	case "emptyLayer":
		if now.Empty {
			return "made a layer → makes none"
		}
		return "made no layer → makes one"
	case "created":
		return fmt.Sprintf("created %s → %s", stamp(old.Created), stamp(now.Created))
	case "author":
		return fmt.Sprintf("author %q → %q", old.Author, now.Author)
	case "comment":
		return fmt.Sprintf("comment %q → %q", old.Comment, now.Comment)
	}
	return fmt.Sprintf("command %q → %q", old.CreatedBy, now.CreatedBy)
}

func stamp(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func printCauses(w io.Writer, r *imagediff.Report) {
	if len(r.Causes.Causes) == 0 {
		return
	}
	fmt.Fprint(w, "\nCauses\n")
	for _, c := range r.Causes.Causes {
		fmt.Fprintf(w, "  %6d  %s\n", c.Count, c.Text)
		if c.Cause == imagediff.Unexplained {
			continue
		}
		for _, e := range c.Examples[:min(len(c.Examples), 2)] {
			fmt.Fprintf(w, "          %s\n", oneLine(e))
		}
		if c.Advice != "" {
			fmt.Fprintf(w, "          advice: %s\n", c.Advice)
		}
	}
	if r.Causes.Unexplained == 0 {
		return
	}
	fmt.Fprint(w, "\nNot explained\n")
	printUnexplained(w, r)
}

// printUnexplained prints the differences without a cause. Where files were compared, they explain the layers.
func printUnexplained(w io.Writer, r *imagediff.Report) {
	if r.Config != nil {
		for _, c := range r.Config.Changes {
			if c.Cause == imagediff.Unexplained {
				printConfig(w, c)
			}
		}
	}
	if r.History != nil {
		for _, c := range r.History.Changes {
			if c.Cause == imagediff.Unexplained {
				printHistory(w, c)
			}
		}
	}
	if r.Files == nil {
		if r.Layers != nil {
			printLayers(w, r.Layers)
		}
		return
	}
	var rest []imagediff.FileChange
	for _, c := range r.Files.Changes {
		if c.Cause == imagediff.Unexplained {
			rest = append(rest, c)
		}
	}
	printFiles(w, rest)
}
