package buildcmd

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/docker/cli/cli/command/formatter"

	"github.com/micabuild/mica/internal/history"
)

// maxStepName is how much of a step's name a table shows, in runes.
const maxStepName = 60

// printPlan lists the steps of a build that was only planned.
func printPlan(out io.Writer, b *history.Build) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "STEP\tSTATUS\tCAUSE")
	count := map[history.State]int{}
	compiled := slices.ContainsFunc(b.Steps, func(s *history.Step) bool { return s.Line > 0 })
	for _, s := range b.Steps {
		switch {
		case s.Source != nil || strings.Contains(s.Name, "] LINK "):
			continue // not an instruction, or the second part of one
		case s.Line > 0:
		case compiled || s.State != history.StepPlanned && s.State != history.StepBlocked && s.State != history.StepCached:
			continue // only front ends other than that of Dockerfiles have steps without a line
		}
		count[s.State]++
		cause := ""
		if s.State != history.StepCached {
			cause = strings.TrimPrefix(strings.Join(b.Notes(s), "; "), "because ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", formatter.Ellipsis(s.Name, maxStepName), s.State, cause)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the plan: %w", err)
	}
	_, err := fmt.Fprintf(out, "\nSteps: %d would run, %d may run after them, %d cached\n",
		count[history.StepPlanned], count[history.StepBlocked], count[history.StepCached])
	return err
}
