//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/micabuild/mica/test/rig"
)

// writePage writes docs/performance.md and its charts.
func writePage(r *results) error {
	charts := filepath.Join(rig.Top(), "docs", "performance")
	if err := os.MkdirAll(charts, 0o755); err != nil {
		return err
	}
	var page bytes.Buffer
	introduce(&page, r)
	for _, g := range groups(r) {
		file := fileName(g.name) + ".svg"
		if err := barChart(g.rows).save(filepath.Join(charts, file)); err != nil {
			return err
		}
		fmt.Fprintf(&page, "\n## %s\n\n![%s](performance/%s)\n\n", g.name, g.name, file)
		writeTimes(&page, g.rows, true)
		writeNotes(&page, g.rows)
	}
	page.WriteString("\n## Disk\n\nBlocks of the whole store after the build, the base image and its caches included, against the bytes of the image's files.\n\n")
	writeDisk(&page, r)
	page.WriteString("\n## Memory\n\nThe largest process of each that works by itself, and of mica the sum of those that live at once; of the others, the\ndaemon.\n\n")
	writeMemory(&page, r)
	if len(r.Curves) > 0 {
		page.WriteString(growthText)
	}
	for _, c := range r.Curves {
		file := "growth-" + fileName(c.Name) + ".svg"
		if err := lineChart(&c).save(filepath.Join(charts, file)); err != nil {
			return err
		}
		fmt.Fprintf(&page, "\n![%s](performance/%s)\n\n", c.Name, file)
		writeCurve(&page, &c)
	}
	return os.WriteFile(filepath.Join(rig.Top(), "docs", "performance.md"), page.Bytes(), 0o644)
}

const growthText = `
## How costs grow

mica alone. Both axes are logarithmic; along the grey slopes, a cost grows as what it is drawn over. The exponent is that of
the growth from the point before: 1 is linear, 0 is no growth; more than 1.1 is marked ✗.
`

// introduce says what was measured, where and how, and what came of it.
func introduce(page *bytes.Buffer, r *results) {
	m := r.Machine
	fmt.Fprintf(page, "# How fast mica is\n\n`make bench` wrote this page on %s: %s.\n\n", r.Date, versionsLine(r))
	fmt.Fprintf(page, "The machine: %d processors (%s), %.0f GB of memory, %s, Linux %s, %s. Absolute times move from machine to machine;\n"+
		"ratios are what counts. ", m.Processors, m.Model, float64(m.Memory)/1e9, m.Filesystem, m.Kernel, m.Go)
	warm := ""
	if r.Warm {
		warm = " after a warm-up"
	}
	fmt.Fprintf(page, "Each time is the median of %d%s, mica and the peers taking turns, with the least and the most in\n"+
		"parentheses. Everything is local, the registry on loopback. Each engine has an ext4 filesystem of its own, new and in a sparse\n"+
		"file. What is written is in the page cache when a command ends; each\n"+
		"measurement begins after sync(2). Every peer does what it does fastest that leaves what mica leaves; where that is not the\n"+
		"same, the notes say so.\n\n", r.Runs, warm)
	if r.Budget > 0 {
		fmt.Fprintf(page, "A row ends with the round in which it has taken %.0f s, all peers together: those that take long are measured less\n"+
			"often, some but once; results.json has every time.\n\n", r.Budget)
	}
	if r.Far > 0 {
		fmt.Fprintf(page, "A peer that takes more than %g times as long as the best of them in the first run after the warm-up is not measured\n"+
			"again: its time is that one, without parentheses.\n\n", r.Far)
	}
	if r.Quick {
		page.WriteString("**With small workloads, to try the benchmark out: these numbers say nothing.**\n\n")
	}
	page.WriteString("The ratio is mica's time to that of the best peer; *at most* is what it is to be.\n\n")
	summarise(page, r)
}

// summarise says which targets are reached.
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

// writeNotes says what is unlike in the rows of a group.
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

// fileName is a heading as the name of a file.
func fileName(s string) string {
	words := strings.FieldsFunc(strings.ToLower(s), func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') })
	return strings.Join(words, "-")
}
