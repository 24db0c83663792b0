package buildcmd

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/history"
)

// TestPrintPlan: a plan lists instructions, or all operations of a front end that has no lines.
func TestPrintPlan(t *testing.T) {
	t.Parallel()
	source := &history.Step{Name: "local://context", Source: &history.Source{}, State: history.StepRan}
	for want, steps := range map[string][]*history.Step{
		"[2/2] COPY a /   would run   \n\nSteps: 1 would run, 0 may run after them, 0 cached\n": {
			source, {Name: "[internal] front end x", State: history.StepRan}, {Name: "[2/2] COPY a /", Line: 2, State: history.StepPlanned},
			{Name: "[2/2] LINK COPY a /", Line: 2, State: history.StepPlanned}, {Name: "helper", State: history.StepCached},
		},
		"copy /a /b   would run   \nmkfile /c    cached      \n\nSteps: 1 would run, 0 may run after them, 1 cached\n": {
			source, {Name: "[internal] front end x", State: history.StepRan}, {Name: "copy /a /b", State: history.StepPlanned},
			{Name: "mkfile /c", State: history.StepCached},
		},
	} {
		var out strings.Builder
		if err := printPlan(&out, &history.Build{Steps: steps}); err != nil {
			t.Fatal(err)
		}
		_, got, _ := strings.Cut(out.String(), "\n")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}
