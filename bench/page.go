//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writePage writes the page of the results to a file. Its charts are in the directory performance beside it: bench/charts.
func writePage(r *results, path string) error {
	var page bytes.Buffer
	introduce(&page, r)
	for _, g := range groups(r) {
		fmt.Fprintf(&page, "\n## %s\n\n![%s](performance/%s.svg)\n\n", g.name, g.name, fileName(g.name))
		writeTimes(&page, g.rows, true)
		writeNotes(&page, g.rows)
	}
	page.WriteString("\n## Disk\n\nDisk blocks of the whole store after the build, with the base image and caches, compared with the bytes of the image's files.\n\n")
	writeDisk(&page, r)
	page.WriteString("\n## Memory\n\nThe resident memory at its peak: for mica, the sum of all processes that run at the same time; for Buildah and crane, the largest process;\nfor BuildKit and Docker, the daemon.\n\n")
	writeMemory(&page, r)
	if len(r.Curves) > 0 {
		page.WriteString(growthText)
	}
	for _, c := range r.Curves {
		fmt.Fprintf(&page, "\n![%s](performance/growth-%s.svg)\n\n", c.Name, fileName(c.Name))
		writeCurve(&page, &c)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, page.Bytes(), 0o644)
}

const growthText = `
## Growth

These curves are mica's alone. Both axes are logarithmic; a linear cost is parallel to the grey slopes. The exponent describes the growth
from the previous point: 1 is linear, 0 is no growth. An exponent above 1.1 is marked ✗.
`

// introduce describes the measurement and its results.
func introduce(page *bytes.Buffer, r *results) {
	m := r.Machine
	fmt.Fprintf(page, "# Performance\n\n`make bench` wrote this page on %s, with %s.\n\n", r.Date, versionsLine(r))
	fmt.Fprintf(page, "Machine: %d processors (%s), %.0f GB of memory, %s, Linux %s, %s. Absolute times depend on the machine; compare the\n"+
		"ratios. ", m.Processors, m.Model, float64(m.Memory)/1e9, m.Filesystem, m.Kernel, m.Go)
	warm := ""
	if r.Warm {
		warm = " after a warm-up"
	}
	fmt.Fprintf(page, "Each time is the median of %d runs%s, with minimum and maximum in parentheses. mica and the peers take\n"+
		"turns. The registry is on loopback. Each engine has a new ext4 filesystem of its own in a sparse file. Written data is in the page\n"+
		"cache when a command ends; each measurement begins after sync(2). Each peer runs its fastest command that gives the same result as\n"+
		"mica's. If the results differ, the notes describe how.\n\n", r.Runs, warm)
	if r.Budget > 0 {
		fmt.Fprintf(page, "A row ends after the round in which all peers together have taken %.0f s. Slow rows therefore have fewer runs, some only\n"+
			"one; results.json has every time.\n\n", r.Budget)
	}
	if r.Far > 0 {
		fmt.Fprintf(page, "A peer that takes more than %g times as long as the best peer in the first run after the warm-up is not measured again.\n"+
			"Its time has no parentheses.\n\n", r.Far)
	}
	if r.Quick {
		page.WriteString("**These numbers are from small workloads, for a test of the benchmark, and have no meaning.**\n\n")
	}
	page.WriteString("*mica / best* is mica's time divided by the time of the best peer. *at most* is the target.\n\n")
	summarise(page, r)
}

// summarise counts the targets that are reached.
func summarise(page *bytes.Buffer, r *results) {
	fmt.Fprintln(page, "| targets | reached | of |\n|---|---|---|")
	var missed []string
	for _, t := range []struct {
		name  string
		check func(*rowResult) (yes, asked bool)
	}{{"time", (*rowResult).reached}, {"disk", (*rowResult).diskReached}, {"memory", (*rowResult).memoryReached}} {
		reached, asked := 0, 0
		for _, row := range r.Rows {
			yes, has := t.check(row)
			if has {
				asked++
			}
			if yes {
				reached++
			} else if has {
				missed = append(missed, t.name+": "+row.Name)
			}
		}
		fmt.Fprintf(page, "| %s | %d | %d |\n", t.name, reached, asked)
	}
	if len(missed) > 0 {
		fmt.Fprintf(page, "\nNot reached:\n\n- %s\n", strings.Join(missed, "\n- "))
	}
	for _, row := range r.Rows {
		for k := range row.Failed {
			fmt.Fprintf(page, "\n%s failed at: %s.\n", k, row.Name)
		}
	}
}

// group is rows under one heading.
type group struct {
	name string
	rows []*rowResult
}

func groups(r *results) []*group {
	var all []*group
	byName := map[string]*group{}
	for _, row := range r.Rows {
		g := byName[row.Group]
		if g == nil {
			g = &group{name: row.Group}
			byName[row.Group] = g
			all = append(all, g)
		}
		g.rows = append(g.rows, row)
	}
	return all
}

// writeNotes lists the differences between the engines in the rows of a group.
func writeNotes(page *bytes.Buffer, rows []*rowResult) {
	said := map[string]bool{}
	for _, r := range rows {
		if r.Note == "" || said[r.Note] {
			continue
		}
		said[r.Note] = true
		fmt.Fprintf(page, "\n- *%s*: %s", r.Name, r.Note)
	}
	if len(said) > 0 {
		page.WriteString("\n")
	}
}

// fileName returns the name of a file for a heading.
func fileName(s string) string {
	words := strings.FieldsFunc(strings.ToLower(s), func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') })
	return strings.Join(words, "-")
}
