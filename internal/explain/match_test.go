package explain

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
)

// TestPlaceOf: names of steps as BuildKit's Dockerfile front end writes them.
func TestPlaceOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]place{
		"[2/5] RUN make":                                  {"", 2, "RUN make"},
		"[build 12/13] COPY a b":                          {"build", 12, "COPY a b"},
		"[linux/arm64 build 1/2] RUN x":                   {"linux/arm64 build", 1, "RUN x"},
		"[linux/arm64 2/2] RUN x":                         {"linux/arm64", 2, "RUN x"},
		"[stage-1 1/2] FROM docker.io/x:1@sha256:" + long: {"stage-1", 1, "FROM docker.io/x:1"},
		"[internal] load build context":                   {"internal", 0, "load build context"},
		"[auth] a/b pull":                                 {"auth", 0, "a/b pull"},
		"[linux/arm64] x":                                 {"linux/arm64", 0, "x"},
		"exporting to image":                              {"", 0, "exporting to image"},
		"[ is no place":                                   {"", 0, "[ is no place"},
		"":                                                {},
	} {
		if got := placeOf(name); got != want {
			t.Errorf("%q: %+v, want %+v", name, got, want)
		}
	}
}

const long = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// buildOf is a build with steps of the given stages: "build: RUN a, RUN b".
func buildOf(stages ...string) *history.Build {
	b := &history.Build{}
	for _, s := range stages {
		stage, steps, _ := strings.Cut(s, ": ")
		list := strings.Split(steps, ", ")
		for i, text := range list {
			name := fmt.Sprintf("[%s %d/%d] %s", stage, i+1, len(list), text)
			b.Steps = append(b.Steps, &history.Step{Vertex: digest.Digest(name), Name: name})
		}
	}
	return b
}

// TestMatch: which step of an earlier build stands in the place of one.
func TestMatch(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ now, old, want []string }{
		"the same":       {[]string{"s: RUN a, RUN b"}, []string{"s: RUN a, RUN b"}, []string{"RUN a=RUN a", "RUN b=RUN b"}},
		"edited":         {[]string{"s: RUN a, RUN x, RUN c"}, []string{"s: RUN a, RUN b, RUN c"}, []string{"RUN a=RUN a", "RUN x=RUN b", "RUN c=RUN c"}},
		"another verb":   {[]string{"s: RUN a, COPY x, RUN c"}, []string{"s: RUN a, RUN b, RUN c"}, []string{"RUN a=RUN a", "COPY x=", "RUN c=RUN c"}},
		"inserted":       {[]string{"s: RUN a, RUN x, RUN b"}, []string{"s: RUN a, RUN b"}, []string{"RUN a=RUN a", "RUN x=", "RUN b=RUN b"}},
		"first":          {[]string{"s: RUN x, RUN a"}, []string{"s: RUN a"}, []string{"RUN x=", "RUN a=RUN a"}},
		"removed":        {[]string{"s: RUN a, RUN c"}, []string{"s: RUN a, RUN b, RUN c"}, []string{"RUN a=RUN a", "RUN c=RUN c"}},
		"moved":          {[]string{"s: RUN b, RUN a"}, []string{"s: RUN a, RUN b"}, []string{"RUN b=", "RUN a=RUN a"}},
		"edited, twice":  {[]string{"s: RUN a1, COPY b, RUN c1"}, []string{"s: RUN a, COPY b, RUN c"}, []string{"RUN a1=RUN a", "COPY b=COPY b", "RUN c1=RUN c"}},
		"edited, added":  {[]string{"s: RUN a, RUN x, COPY y, RUN d"}, []string{"s: RUN a, COPY b, RUN d"}, []string{"RUN a=RUN a", "RUN x=", "COPY y=COPY b", "RUN d=RUN d"}},
		"the same twice": {[]string{"s: RUN a, RUN a, RUN a"}, []string{"s: RUN a, RUN a"}, []string{"RUN a=RUN a", "RUN a=RUN a", "RUN a="}},
		"a base image":   {[]string{"s: FROM x:1@sha256:" + long}, []string{"s: FROM x:2"}, []string{"FROM x:1=FROM x:2"}},
		"a renamed stage": {
			[]string{"new: RUN a, RUN b", "other: RUN c"}, []string{"s: RUN a, RUN b", "other: RUN c"}, []string{"RUN a=RUN a", "RUN b=RUN b", "RUN c=RUN c"},
		},
		"a new stage": {[]string{"s: RUN a", "new: RUN x"}, []string{"s: RUN a"}, []string{"RUN a=RUN a", "RUN x="}},
		"a stage without a name, inserted": {
			[]string{"stage-0: RUN x", "stage-1: RUN a, RUN b", "stage-2: RUN c"}, []string{"stage-0: RUN a, RUN b", "stage-1: RUN c"},
			[]string{"RUN x=", "RUN a=RUN a", "RUN b=RUN b", "RUN c=RUN c"},
		},
		"stages swapped": {[]string{"a: RUN x", "b: RUN y"}, []string{"b: RUN y", "a: RUN x"}, []string{"RUN x=RUN x", "RUN y=RUN y"}},
		"one in each":    {[]string{"a: RUN x", "b: RUN x"}, []string{"a: RUN x"}, []string{"RUN x=RUN x", "RUN x="}},
		"nothing":        {[]string{"s: RUN a"}, nil, []string{"RUN a="}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, old := buildOf(tt.now...), buildOf(tt.old...)
			pairs := match(now, old)
			var got []string
			for _, s := range now.Steps {
				line := placeOf(s.Name).text + "="
				if p, ok := pairs[s.Vertex]; ok {
					line += p.text
				}
				got = append(got, line)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestMatchOfSharedSteps: a step that two platforms share is the same step, although it is named after another platform.
func TestMatchOfSharedSteps(t *testing.T) {
	t.Parallel()
	step := func(vertex, name string) *history.Step {
		return &history.Step{Vertex: digest.Digest(vertex), Name: name}
	}
	old := &history.Build{Steps: []*history.Step{step("f", "[linux/amd64 1/2] COPY f"), step("a", "[linux/amd64 2/2] COPY g"), step("b", "[linux/arm64 2/2] COPY g")}}
	now := &history.Build{Steps: []*history.Step{step("f", "[linux/arm64 1/2] COPY f"), step("b", "[linux/arm64 2/2] COPY g"), step("a", "[linux/amd64 2/2] COPY g")}}
	pairs := match(now, old)
	for _, s := range now.Steps {
		if pairs[s.Vertex].Step == nil || pairs[s.Vertex].Vertex != s.Vertex {
			t.Errorf("%s stands in the place of %+v", s.Name, pairs[s.Vertex].Step)
		}
	}
}

// TestMatchOfManySteps: thousands of steps that all differ are not compared with each other, but for their places.
func TestMatchOfManySteps(t *testing.T) {
	t.Parallel()
	var a, b []string
	for i := range 5000 {
		a = append(a, fmt.Sprintf("RUN a%d", i))
		b = append(b, fmt.Sprintf("RUN b%d", i))
	}
	pairs := match(buildOf("s: "+strings.Join(a, ", ")), buildOf("s: "+strings.Join(b, ", ")))
	if len(pairs) != 5000 {
		t.Errorf("%d pairs", len(pairs))
	}
}
