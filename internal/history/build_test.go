package history

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestDurations: of a build from its start to its end, or to now; of one that was killed nobody knows.
func TestDurations(t *testing.T) {
	t.Parallel()
	started := time.Now().Add(-time.Hour)
	for name, tt := range map[string]struct {
		build    Build
		min, max time.Duration
	}{
		"ended":       {Build{Started: started, Completed: started.Add(time.Minute), Status: Completed}, time.Minute, time.Minute},
		"running":     {Build{Started: started, Status: Running}, time.Hour, 2 * time.Hour},
		"interrupted": {Build{Started: started, Status: Interrupted}, 0, 0},
	} {
		if got := tt.build.Duration(); got < tt.min || got > tt.max {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, tt := range map[string]struct {
		step Step
		want time.Duration
	}{
		"ran":         {Step{Started: started, Completed: started.Add(time.Second)}, time.Second},
		"running":     {Step{Started: started}, 0},
		"not reached": {Step{}, 0},
	} {
		if got := tt.step.Duration(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0.0s", 1234 * time.Millisecond: "1.2s", 59 * time.Second: "59.0s", 61*time.Second + 400*time.Millisecond: "1m 1s", 3725 * time.Second: "1h 2m",
	} {
		if got := Seconds(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// TestNotes: the lines below a step: why it ran again, and why caches did not have it.
func TestNotes(t *testing.T) {
	t.Parallel()
	copied := &Step{Vertex: "sha256:copy", Name: "[1/2] COPY . ."}
	b := &Build{Steps: []*Step{copied}}
	missed := CacheMiss{Cache: "r.example/c", Causes: []Cause{{Kind: NoStep}}}
	for name, tt := range map[string]struct {
		step Step
		want []string
	}{
		"nothing": {Step{}, nil},
		"causes":  {Step{Causes: []Cause{{Kind: Result, Step: copied.Vertex}}}, []string{"because [1/2] COPY . . gave another result"}},
		"caches": {
			Step{Misses: []CacheMiss{missed, {Cache: "b\nc", Causes: []Cause{{Kind: NoResult}}}}},
			[]string{"not in cache r.example/c: no step in it has this definition", `not in cache "b\nc": it has the step without its result, as with mode=min`},
		},
		"both": {
			Step{Causes: []Cause{{Kind: Command}}, Misses: []CacheMiss{missed}},
			[]string{"because the instruction changed", "not in cache r.example/c: no step in it has this definition"},
		},
		"a step that is not there": {Step{Causes: []Cause{{Kind: Result, Step: "sha256:gone"}}}, []string{"because sha256:gone gave another result"}},
	} {
		if got := b.Notes(&tt.step); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestRemoteCauseText: what a remote cache has in place of a result.
func TestRemoteCauseText(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Cause{
		"no step in it has this definition":                            {Kind: NoStep},
		"it has the step for linux/arm64":                              {Kind: OtherPlatform, Old: "linux/arm64"},
		"it has the step with other files of the context a":            {Kind: OtherInput, Change: OfFiles, Name: "the context a"},
		"it has the step, not on the base image base@sha256":           {Kind: OtherInput, Change: OfBase, Name: "base@sha256"},
		"it has the step with another content of https://h/f":          {Kind: OtherInput, Change: OfRemote, Name: "https://h/f"},
		"it has the step, not with [s] COPY":                           {Kind: OtherInput, Change: OfStep, Step: "s"},
		"it does not have [s] COPY":                                    {Kind: OtherInput, Change: OfNoStep, Step: "s"},
		"it has the step without its result, as with mode=min":         {Kind: NoResult},
		"it has the step, but not all layers of its result":            {Kind: NoLayers},
		"it names the result of the step, but layers of that are gone": {Kind: LostLayers},
		"it has no record of this step with what it reads here":        {Kind: NoRecord},
		"its result came from a cache that no longer has its layers":   {Kind: Lost},
		"its record of build abc was pruned from the build cache":      {Kind: Pruned, Name: "abc"},
		"its layers of build abc are no longer in the store":           {Kind: Gone, Name: "abc"},
		"it was canceled the last time":                                {Kind: Stopped},
		"after [s] COPY":                                               {Kind: After, Step: "s"},
		`"a\x1b[31m" changed`:                                          {Kind: File, Name: "a\x1b[31m", Change: Content},
		`base image "a\n" → "b\n"`:                                     {Kind: Base, Old: "a\n", New: "b\n"},
		`link of l "a\n" → b`:                                          {Kind: File, Name: "l", Change: Link, Old: "a\n", New: "b"},
	} {
		if got := c.Text(name); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
}

// TestLineOf: builds of one context, Dockerfile and target have one line, and others another.
func TestLineOf(t *testing.T) {
	t.Parallel()
	seen := map[string][3]string{}
	for _, of := range [][3]string{{"a", "b", "c"}, {"a b", "", "c"}, {"a", "b c", ""}, {"a", "", "b"}, {`a"`, `"b`, "c"}, {"", "", ""}} {
		line := LineOf(of[0], of[1], of[2])
		if other, ok := seen[line]; ok {
			t.Errorf("%q and %q have one line", of, other)
		}
		if seen[line] = of; line != LineOf(of[0], of[1], of[2]) || !alphanumeric(line) {
			t.Errorf("%q: %s", of, line)
		}
	}
}

// TestTransient: what is saved of a plan is not written, and found beside what the store has.
func TestTransient(t *testing.T) {
	t.Parallel()
	kept := open(t)
	inStore, planned := digest.FromString("a"), digest.FromString("b")
	if err := kept.SaveIngredients(inStore, func() []Ingredient { return []Ingredient{{Kind: "platform", Value: "x"}} }); err != nil {
		t.Fatal(err)
	}
	plan := Transient(kept.store)
	if err := plan.SaveIngredients(planned, func() []Ingredient { return []Ingredient{{Kind: "platform", Value: "y"}} }); err != nil {
		t.Fatal(err)
	}
	if err := plan.SaveFiles(planned, []byte("files")); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[digest.Digest]string{inStore: "x", planned: "y"} {
		if list, err := plan.Ingredients(key); err != nil || len(list) != 1 || list[0].Value != want {
			t.Errorf("%s: %+v, %v", key, list, err)
		}
	}
	if data, err := plan.Files(planned); err != nil || string(data) != "files" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := kept.Ingredients(planned); err == nil || kept.HasFiles(planned) {
		t.Error("the plan was written")
	}
}

// TestDamagedError: it names the build, what is wrong, and the remedy.
func TestDamagedError(t *testing.T) {
	t.Parallel()
	b := open(t)
	record(t, b, "abc", "l", 1, &Step{Vertex: "sha256:a", Inputs: []digest.Digest{"sha256:missing"}})
	_, err := b.Find("abc")
	if err == nil || !strings.HasPrefix(err.Error(), `read build abc: step "" has an input`) || !strings.HasSuffix(err.Error(), "(mica builds rm abc removes it)") {
		t.Fatalf("%v", err)
	}
	if list, err := b.List(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if removed, errs := b.Remove("abc"); !slices.Equal(removed, []string{"abc"}) || len(errs) > 0 {
		t.Errorf("%q, %v", removed, errs)
	}
}
