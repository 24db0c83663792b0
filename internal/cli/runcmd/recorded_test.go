package runcmd

import (
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/history"
)

// TestRunRecorded: BUILD:STEP is a step of an earlier build, unless it is the name of an image in the store.
func TestRunRecorded(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	build := &history.Build{
		Ref: "abcdefghijkl", Line: "aaaaaaaaaaaa", Started: time.Now().UTC(), Context: "/src", Platforms: []string{"linux/amd64"}, Text: "FROM x\nRUN make\n",
		Steps: []*history.Step{
			{Vertex: "sha256:a", Name: "[1/2] FROM x", Line: 1, Output: "sha256:none", State: history.StepRan},
			{Vertex: "sha256:b", Name: "[2/2] RUN make", Line: 2, State: history.StepFailed, Inputs: []digest.Digest{"sha256:a"}},
			{Vertex: "sha256:c", Name: "[3/3] RUN test", Line: 3, Inputs: []digest.Digest{"sha256:b"}},
		},
	}
	w, err := history.Open(m.Store).Begin(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	m.Tag(m.Image(nil), "abcdefgh:image")
	for args, want := range map[string]string{
		"^0:1":                              "the result of step [1/2] FROM x is not in the store: it was pruned, or has stayed in a remote cache; mica build /src without --cache-from makes it again",
		":1":                                "the result of step [1/2] FROM x is not in the store: it was pruned, or has stayed in a remote cache; mica build /src without --cache-from makes it again",
		"abcdefg:FROM ls":                   "the result of step [1/2] FROM x is not in the store: it was pruned, or has stayed in a remote cache; mica build /src without --cache-from makes it again",
		"^0:7":                              "build abcdefghijkl has no step at line 7: its steps are at lines 1, 2, 3",
		"^1:1":                              "no such build: ^1 (the store remembers 1 builds)",
		"^0":                                "^0 names no step of the build: use ^0:LINE (mica builds inspect ^0 lists the steps)",
		"^0:":                               `build abcdefghijkl has no instruction "" (mica builds inspect abcdefghijkl lists its steps)`,
		"^0:make ls":                        "the result of step [1/2] FROM x is not in the store: it was pruned, or has stayed in a remote cache; mica build /src without --cache-from makes it again",
		"^0:test ls":                        "step [3/3] RUN test was not reached",
		"abcdefgh:image":                    "no command specified",
		"--pull never abcdef:1":             "No such image: abcdef:1",
		"--pull never h.example/abcdefgh:1": "No such image: h.example/abcdefgh:1",
		"--pull never zzzzzzzz:1":           "No such image: zzzzzzzz:1",
	} {
		got := m.Run(NewRunCommand, strings.Fields(args)...)
		text := strings.TrimSuffix(strings.TrimPrefix(commandtest.Text(got.Err), "mica: "), "\n\nRun 'mica run --help' for more information")
		if text != want {
			t.Errorf("%s: %s, want %s", args, text, want)
		}
	}
}
