package explorecmd

import (
	"fmt"
	"io"
	"strings"

	"github.com/docker/cli/cli/command/formatter/tabwriter"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/terminal"
)

// printReport prints an analysis for people.
func printReport(out io.Writer, r *analyze.Report) error {
	w := tabwriter.NewWriter(out, 10, 1, 3, ' ', 0)
	fmt.Fprintf(w, "Image:\t%s\n", line(r.Image))
	if r.ID != "" {
		fmt.Fprintf(w, "ID:\t%s\n", r.ID)
	}
	fmt.Fprintf(w, "Size:\t%s, %s\n", analyze.Size(r.Size), files(r.Files))
	fmt.Fprintf(w, "Efficiency:\t%s\n", analyze.Percent(r.Efficiency))
	fmt.Fprintf(w, "Wasted:\t%s\n", total(r.Wasted))
	fmt.Fprintf(w, "Duplicates:\t%s\n", total(r.Duplicates))
	if err := w.Flush(); err != nil {
		return err
	}
	for _, section := range []func(w *tabwriter.Writer, r *analyze.Report){printSteps, printLargest, printWaste, printCopies} {
		section(w, r)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	printFindings(out, r)
	printChecks(w, r)
	return w.Flush()
}

func total(t analyze.Total) string { return analyze.Size(t.Bytes) + " in " + files(t.Files) }

func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

func printSteps(w *tabwriter.Writer, r *analyze.Report) {
	fmt.Fprintln(w, "\nSTEP\tSIZE\tWASTED\tADDED\tMODIFIED\tREMOVED\tCREATED BY")
	for _, s := range r.Steps {
		if s.Layer > 0 {
			fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%d\t%s\n", s.Number, analyze.Size(s.Size), analyze.Size(s.Wasted), s.Added, s.Modified, s.Removed, short(s.Instruction, 70))
		}
	}
}

func printLargest(w *tabwriter.Writer, r *analyze.Report) {
	if len(r.Largest) == 0 {
		return
	}
	fmt.Fprintln(w, "\nSIZE\tSTEP\tLARGEST FILES")
	for _, f := range r.Largest {
		fmt.Fprintf(w, "%s\t%d\t%s\n", analyze.Size(f.Bytes), f.Step, file(f.Path))
	}
}

func printWaste(w *tabwriter.Writer, r *analyze.Report) {
	if len(r.Waste) == 0 {
		return
	}
	fmt.Fprintln(w, "\nSIZE\tFILES\tSTEP\tWASTED")
	for _, x := range r.Waste {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s (%s by step %d)\n", analyze.Size(x.Bytes), x.Files, x.Step, file(x.Path), x.How, x.By)
	}
}

func printCopies(w *tabwriter.Writer, r *analyze.Report) {
	if len(r.Copies) == 0 {
		return
	}
	fmt.Fprintln(w, "\nSIZE\tCOPIES\tDUPLICATES")
	for _, c := range r.Copies {
		const most = 3
		var names []string
		for _, p := range c.Paths[:min(len(c.Paths), most)] {
			names = append(names, file(p))
		}
		if rest := len(c.Paths) - most; rest > 0 {
			names = append(names, fmt.Sprintf("and %d more", rest))
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", analyze.Size(c.Bytes), len(c.Paths), strings.Join(names, ", "))
	}
}

func printFindings(w io.Writer, r *analyze.Report) {
	for _, f := range r.Findings {
		where := ""
		if f.Path != "" {
			where = file(f.Path) + ": "
		}
		if f.Step > 0 && f.Kind != analyze.KindWaste {
			where = fmt.Sprintf("step %d: ", f.Step) + where
		}
		fmt.Fprintf(w, "\n%s: %s%s\n  %s\n", f.Kind, where, line(f.Text), line(f.Advice))
	}
	if r.Unverified > 0 {
		fmt.Fprintf(w, "\nThe files of %d of the layers are those of the registry's tables of contents, which are checked when the layers are pulled.\n", r.Unverified)
	}
	switch {
	case r.SecretsUnread == 1:
		fmt.Fprintln(w, "\n1 file that may hold secrets was not read.")
	case r.SecretsUnread > 1:
		fmt.Fprintf(w, "\n%d files that may hold secrets were not read.\n", r.SecretsUnread)
	}
}

func printChecks(w *tabwriter.Writer, r *analyze.Report) {
	if len(r.Checks) == 0 {
		return
	}
	fmt.Fprintln(w, "\nRESULT\tCHECK\tLIMIT\tVALUE")
	for _, c := range r.Checks {
		result := "pass"
		if !c.Pass {
			result = "FAIL"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", result, c.Name, line(c.Limit), c.Value)
	}
}

// file is a path of an image on one line.
func file(path string) string {
	if path == "." {
		return "/"
	}
	return "/" + line(path)
}

// line is a text on one line of a table.
func line(text string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(terminal.EscapeString(text))
}

// short is the beginning of a text.
func short(text string, most int) string {
	text = line(text)
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
