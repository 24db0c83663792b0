package explain

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
)

// texts are causes in words.
func texts(b *history.Build, list []history.Cause) (got []string) {
	for _, c := range list {
		got = append(got, c.Text(b.StepName))
	}
	return got
}

// TestRemoteRoots: what one cache does not have is followed to its beginning in that cache, not in another.
func TestRemoteRoots(t *testing.T) {
	t.Parallel()
	one := &history.Step{Vertex: "sha256:1", Name: "one", Misses: []history.CacheMiss{
		{Cache: "a", Causes: []history.Cause{{Kind: history.File, Name: "f", Change: history.Added}, {Kind: history.Command}}},
		{Cache: "b", Causes: []history.Cause{{Kind: history.NoStep}}},
	}}
	after := func(cache string, s *history.Step) history.CacheMiss {
		return history.CacheMiss{Cache: cache, Causes: []history.Cause{{Kind: history.Result, Step: s.Vertex}}}
	}
	two := &history.Step{Vertex: "sha256:2", Name: "two", Misses: []history.CacheMiss{after("a", one), after("b", one), after("c", one)}}
	three := &history.Step{Vertex: "sha256:3", Name: "three", Misses: []history.CacheMiss{after("a", two), after("b", two), after("c", two)}}
	three.Misses[0].Causes = append(three.Misses[0].Causes, history.Cause{Kind: history.Result, Step: one.Vertex}) // once, by two ways
	b := &history.Build{Steps: []*history.Step{one, two, three}}
	for cache, want := range map[string][]string{
		"a": {"f added", "the instruction changed"}, "b": {"no step in it has this definition"}, "c": {"one gave another result"}, "d": nil,
	} {
		if got := texts(b, RemoteRoots(b, three, cache)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", cache, got, want)
		}
	}
}

// TestJoined: a step without a key, which joins results, is explained by those that are not the same.
func TestJoined(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	steps := func(user string) []*history.Step {
		a := l.step("[1/3] COPY a /", []history.Ingredient{exec("")})
		b := l.step("[2/3] RUN b", []history.Ingredient{exec(`"meta":{"user":"` + user + `"}`)})
		merge := &history.Step{
			Vertex: "sha256:merge", Name: "merge", State: history.StepRan, Output: digest.FromString("merge" + user), Inputs: []digest.Digest{a.Vertex, b.Vertex},
		}
		return []*history.Step{a, b, merge, l.step("[3/3] RUN c", []history.Ingredient{exec(""), layers(merge)}, merge)}
	}
	l.build(&history.Build{}, steps("1")...)
	list := steps("2")
	b := l.build(&history.Build{}, list...)
	if got := texts(b, New(l.builds, b).Differences(list[3])); !slices.Equal(got, []string{"[2/3] RUN b gave another result"}) {
		t.Errorf("%q", got)
	}
}

// TestWorkdir: another directory of a step is the result of the WORKDIR above it that was edited, or is new.
func TestWorkdir(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		old, now []string // directories
		want     []string
	}{
		"edited":   {[]string{"/a"}, []string{"/b"}, []string{"[1/9] WORKDIR /b gave another result"}},
		"the same": {[]string{"/a"}, []string{"/a"}, []string{`working directory: "/old" → "/new"`}},
		"new":      {[]string{"/a"}, []string{"/a", "b"}, []string{"[2/9] WORKDIR b gave another result"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			steps := func(cwd string, dirs []string) (list []*history.Step) {
				var below []*history.Step
				for i, d := range dirs {
					s := l.step("["+string(rune('1'+i))+"/9] WORKDIR "+d, []history.Ingredient{exec(`"dir":"` + d + `"`)}, below...)
					below, list = []*history.Step{s}, append(list, s)
				}
				return append(list, l.step("[9/9] RUN x", []history.Ingredient{exec(`"meta":{"cwd":"` + cwd + `"}`)}, below...))
			}
			l.build(&history.Build{}, steps("/old", tt.old)...)
			list := steps("/new", tt.now)
			b := l.build(&history.Build{}, list...)
			if got := texts(b, New(l.builds, b).Differences(list[len(list)-1])); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestAnnounced: steps that are announced later are compared, too.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one := func(user string) []history.Ingredient {
		return []history.Ingredient{exec(`"meta":{"user":"` + user + `"}`)}
	}
	l.build(&history.Build{}, l.step("[1/2] RUN a", one("1")), l.step("[2/2] RUN b", one("1")))
	a, b := l.step("[1/2] RUN a", one("2")), l.step("[2/2] RUN b", one("2"))
	now := l.build(&history.Build{}, a)
	x := New(l.builds, now)
	if got := texts(now, x.Why(a, history.Pruned)); !slices.Equal(got, []string{`user: "1" → "2"`}) {
		t.Fatalf("%q", got)
	}
	now.Steps = append(now.Steps, b)
	x.Announced()
	if got := texts(now, x.Why(b, history.Pruned)); !slices.Equal(got, []string{`user: "1" → "2"`}) {
		t.Errorf("%q", got)
	}
}

// TestByBase: the base image is the cause of a user or a variable that neither the Dockerfile nor an argument explains.
func TestByBase(t *testing.T) {
	t.Parallel()
	const text = "FROM debian\nRUN x\n"
	for name, tt := range map[string]struct {
		oldText, text string
		args          map[string]string
		want          []string
	}{
		"the same Dockerfile":   {text, text, nil, []string{"base image debian:12 changed (1 layer)"}},
		"another Dockerfile":    {text, text + "# edited\n", nil, []string{`user: "a" → "b"`, "base image debian:12 changed (1 layer)"}},
		"an argument":           {text, text, map[string]string{"V": "1"}, []string{`user: "a" → "b"`, "base image debian:12 changed (1 layer)"}},
		"an unknown Dockerfile": {"", "", nil, []string{`user: "a" → "b"`, "base image debian:12 changed (1 layer)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			steps := func(id string, layer digest.Digest, user string) []*history.Step {
				base := source("debian:12@"+id, layer)
				return []*history.Step{base, l.step("[2/2] RUN x", []history.Ingredient{exec(`"meta":{"user":"` + user + `"}`), layers(base)}, base)}
			}
			l.build(&history.Build{Text: tt.oldText}, steps("x", "a", "a")...)
			list := steps("y", "b", "b")
			b := l.build(&history.Build{Text: tt.text, Args: tt.args}, list...)
			got := texts(b, New(l.builds, b).Differences(list[1]))
			slices.Sort(got)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
