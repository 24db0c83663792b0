//go:build e2e

package main

import (
	"fmt"
	"io"
	"strings"
)

// printProgress prints a row as soon as it is measured.
func printProgress(w io.Writer, r *rowResult) {
	fmt.Fprintln(w, tableRow(r, true))
	for k, text := range r.Failed {
		fmt.Fprintf(w, "  %s failed: %s\n", k, text)
	}
}

// printTable prints everything as Markdown.
func printTable(w io.Writer, r *results) {
	fmt.Fprint(w, "\n", versionsLine(r), "\n\n")
	writeTimes(w, r.Rows, true)
	fmt.Fprintln(w)
	writeDisk(w, r)
	fmt.Fprintln(w)
	writeMemory(w, r)
	for _, c := range r.Curves {
		fmt.Fprintln(w)
		writeCurve(w, &c)
	}
}

func versionsLine(r *results) string {
	parts := make([]string, 0, len(kinds))
	for _, k := range kinds {
		if r.Versions[k] != "" { // mica serve has mica's
			parts = append(parts, fmt.Sprintf("%s %s", k, r.Versions[k]))
		}
	}
	return strings.Join(parts, ", ")
}

// writeTimes writes the table of times; with the spread, if that is asked for.
func writeTimes(w io.Writer, rows []*rowResult, spread bool) {
	fmt.Fprint(w, "| work |")
	for _, k := range kinds {
		fmt.Fprintf(w, " %s |", k)
	}
	fmt.Fprintf(w, " mica / best | at most | |\n|---|%s---|---|---|\n", strings.Repeat("---|", len(kinds)))
	for _, r := range rows {
		fmt.Fprintln(w, tableRow(r, spread))
	}
}

func tableRow(r *rowResult, spread bool) string {
	cells := []string{r.Name}
	for _, k := range kinds {
		cells = append(cells, timeCell(r, k, spread))
	}
	ratio := "-"
	if r.Ratio > 0 {
		ratio = fmt.Sprintf("%.2f", r.Ratio)
	}
	cells = append(cells, ratio, r.Target.String(), mark(r))
	return "| " + strings.Join(cells, " | ") + " |"
}

func timeCell(r *rowResult, k kind, spread bool) string {
	s := r.Times[k]
	switch {
	case r.Failed[k] != "":
		return "failed"
	case s == nil:
		return "-"
	case spread && len(s.All) > 1:
		return fmt.Sprintf("%s (%s..%s)", seconds(s.Median), seconds(s.Min), seconds(s.Max))
	}
	return seconds(s.Median)
}

// mark is whether the target is reached.
func mark(r *rowResult) string { return tick(r.reached()) }

// String is the target as the tables have it.
func (t target) String() string {
	var parts []string
	if t.Ratio > 0 {
		parts = append(parts, fmt.Sprintf("%.2f", t.Ratio))
	}
	if t.Seconds > 0 {
		parts = append(parts, seconds(t.Seconds))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, " and ")
}

// seconds is a time with three digits that count.
func seconds(s float64) string {
	switch {
	case s >= 100:
		return fmt.Sprintf("%.0f s", s)
	case s >= 10:
		return fmt.Sprintf("%.1f s", s)
	case s >= 1:
		return fmt.Sprintf("%.2f s", s)
	case s >= 0.1:
		return fmt.Sprintf("%.0f ms", s*1000)
	}
	return fmt.Sprintf("%.1f ms", s*1000)
}

// writeDisk writes what stores take after builds, against the bytes of the images' content.
func writeDisk(w io.Writer, r *results) {
	fmt.Fprintf(w, "| disk after | content |")
	for _, k := range builders {
		fmt.Fprintf(w, " %s |", k)
	}
	fmt.Fprintf(w, " mica / content | at most | |\n|---|---|%s---|---|---|\n", strings.Repeat("---|", len(builders)))
	for _, row := range r.Rows {
		if row.Content == 0 || row.Disk[kindMica] == 0 {
			continue
		}
		fmt.Fprintf(w, "| %s | %s |", row.Name, megabytes(row.Content))
		for _, k := range builders {
			fmt.Fprintf(w, " %s |", megabytes(row.Disk[k]))
		}
		ratio := float64(row.Disk[kindMica]) / float64(row.Content)
		fmt.Fprintf(w, " %.3f | %.2f | %s |\n", ratio, diskTarget, tick(row.diskReached()))
	}
}

// writeMemory writes the peak memory of each row.
func writeMemory(w io.Writer, r *results) {
	fmt.Fprintf(w, "| peak memory of |")
	for _, k := range kinds {
		fmt.Fprintf(w, " %s |", k)
	}
	fmt.Fprintf(w, " at most | |\n|---|%s---|---|\n", strings.Repeat("---|", len(kinds)))
	for _, row := range r.Rows {
		fmt.Fprintf(w, "| %s |", row.Name)
		for _, k := range kinds {
			fmt.Fprintf(w, " %s |", megabytes(row.Memory[k]))
		}
		fmt.Fprintf(w, " %s | %s |\n", megabytes(row.limit()), tick(row.memoryReached()))
	}
}

// tick is the mark of what was reached, and of what was not.
func tick(yes, asked bool) string {
	switch {
	case !asked:
		return ""
	case yes:
		return "✓"
	}
	return "✗"
}

func megabytes(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
