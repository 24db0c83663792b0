package explain

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// lab makes builds of one line whose steps have made-up ingredients.
type lab struct {
	t      *testing.T
	builds *history.Builds
	count  int
}

func newLab(t *testing.T) *lab {
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return &lab{t: t, builds: history.Open(s)}
}

// step is a step with a key made of its ingredients, built on the steps in inputs.
func (l *lab) step(name string, ingredients []history.Ingredient, inputs ...*history.Step) *history.Step {
	l.t.Helper()
	id := digest.FromString(fmt.Sprint(name, ingredients))
	s := &history.Step{Vertex: digest.FromString(name), Name: name, Key: id, Output: id, State: history.StepRan}
	for _, in := range inputs {
		s.Inputs = append(s.Inputs, in.Vertex)
	}
	if err := l.builds.SaveIngredients(id, func() []history.Ingredient { return ingredients }); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// build records a build.
func (l *lab) build(b *history.Build, steps ...*history.Step) *history.Build {
	l.t.Helper()
	l.count++
	b.Ref, b.Line, b.Steps, b.Started = fmt.Sprintf("build%d", l.count), "line", steps, time.Now().Add(time.Duration(l.count)*time.Second)
	status := b.Status
	w, err := l.builds.Begin(context.Background(), b)
	if err != nil {
		l.t.Fatal(err)
	}
	if b.Status = status; status == "" {
		b.Status = history.Completed
	}
	if err := w.End(); err != nil {
		l.t.Fatal(err)
	}
	return b
}

// exec is the operation of a RUN.
func exec(fields string) history.Ingredient {
	return history.Ingredient{Kind: "operation", Name: "exec", Value: "{" + fields + "}", Input: -1}
}

// TestOperations: differences of the definitions of steps, in the user's terms.
func TestOperations(t *testing.T) {
	t.Parallel()
	file := func(fields string) history.Ingredient {
		return history.Ingredient{Kind: "operation", Name: "file", Value: "{" + fields + "}", Input: -1}
	}
	args := func(a string) map[string]string { return map[string]string{"V": a} }
	for name, tt := range map[string]struct {
		oldName, nowName string
		old, now         history.Ingredient
		oldBuild, build  history.Build
		want             []string
	}{
		"a command": {
			"[1/1] RUN a", "[1/1] RUN b", exec(`"meta":{"args":["/bin/sh","-c","a"]}`), exec(`"meta":{"args":["/bin/sh","-c","b"]}`),
			history.Build{}, history.Build{}, []string{"the instruction changed"},
		},
		"a shell": {
			"[1/1] RUN a", "[1/1] RUN a", exec(`"meta":{"args":["/bin/sh","-c","a"]}`), exec(`"meta":{"args":["/bin/bash","-c","a"]}`),
			history.Build{}, history.Build{}, []string{`shell: "/bin/sh -c" → "/bin/bash -c"`},
		},
		"a variable": {
			"[1/1] RUN $A", "[1/1] RUN $A", exec(`"meta":{"args":["x"],"env":["A=1","B=1"]}`), exec(`"meta":{"args":["x"],"env":["A=2","C="]}`),
			history.Build{}, history.Build{}, []string{`environment A: "1" → "2"`, "environment B: no longer set", "environment C changed"},
		},
		"an argument": {
			"[1/1] RUN $V", "[1/1] RUN $V", exec(`"meta":{"args":["x"],"env":["V=1"]}`), exec(`"meta":{"args":["x"],"env":["V=2"]}`),
			history.Build{Args: args("1")}, history.Build{Args: args("2")}, []string{`build argument V: "1" → "2"`},
		},
		"an argument in another variable": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{"env":["E=v1.0","V=1.0"]}`), exec(`"meta":{"env":["E=v2.0","V=2.0"]}`),
			history.Build{Args: args("1.0")}, history.Build{Args: args("2.0")}, []string{`build argument V: "1.0" → "2.0"`},
		},
		"the default of an argument": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{"env":["V=1"]}`), exec(`"meta":{"env":["V=2"]}`),
			history.Build{Text: "ARG V=1\n"}, history.Build{Text: "ARG V=\"2\"\n"}, []string{`build argument V: "1" → "2"`},
		},
		"an argument in the text of a COPY": {
			"[1/1] COPY a1 /", "[1/1] COPY a2 /", file(`"Action":{"copy":{"src":"a1","dest":"/","timestamp":-1}}`), file(`"Action":{"copy":{"src":"a2","dest":"/","timestamp":-1}}`),
			history.Build{Args: args("1")}, history.Build{Args: args("2")}, []string{`build argument V: "1" → "2"`},
		},
		"a variable in the text of a COPY": {
			"[1/1] COPY a1 /", "[1/1] COPY a2 /", file(`"Action":{"copy":{"src":"a1","dest":"/","timestamp":-1}}`), file(`"Action":{"copy":{"src":"a2","dest":"/","timestamp":-1}}`),
			history.Build{Text: "FROM x\nCOPY $E /\nENV E=a1\n"}, history.Build{Text: "FROM x\nCOPY $E /\nENV E=a2\n"}, []string{`environment E: "a1" → "a2"`},
		},
		"a variable in the text of a RUN": {
			"[1/1] RUN dev", "[1/1] RUN prod", exec(`"meta":{"args":["$M"],"env":["M=dev"]}`), exec(`"meta":{"args":["$M"],"env":["M=prod"]}`),
			history.Build{}, history.Build{}, []string{`environment M: "dev" → "prod"`},
		},
		"an instruction, and an argument with the same digit": {
			"[1/1] COPY a1 /", "[1/1] COPY a2 /", file(`"Action":{"copy":{"src":"a1","dest":"/","timestamp":-1}}`), file(`"Action":{"copy":{"src":"a2","dest":"/","timestamp":-1}}`),
			history.Build{Text: "FROM scratch\nCOPY a1 /\nARG N=1\n"}, history.Build{Text: "FROM scratch\nCOPY a2 /\nARG N=2\n"}, []string{"the instruction changed"},
		},
		"an argument with its beginning cut": {
			"[1/1] COPY a1 /", "[1/1] COPY a2 /", file(`"Action":{"copy":{"src":"a1","dest":"/","timestamp":-1}}`), file(`"Action":{"copy":{"src":"a2","dest":"/","timestamp":-1}}`),
			history.Build{Text: "FROM scratch\nCOPY a${V#v} /\n", Args: args("v1")}, history.Build{Text: "FROM scratch\nCOPY a${V#v} /\n", Args: args("v2")},
			[]string{`build argument V: "v1" → "v2"`},
		},
		"an exec form": {
			"[1/1] RUN [/a x]", "[1/1] RUN [/b x]", exec(`"meta":{"args":["/a","x"]}`), exec(`"meta":{"args":["/b","x"]}`), history.Build{}, history.Build{},
			[]string{"the instruction changed"},
		},
		"a secret argument": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{"env":["API_TOKEN=s3cret"]}`), exec(`"meta":{"env":["API_TOKEN=s4cret"]}`), history.Build{}, history.Build{},
			[]string{"environment API_TOKEN changed"},
		},
		"a secret argument that was given": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{"env":["API_TOKEN=s3cret"]}`), exec(`"meta":{"env":["API_TOKEN=s4cret"]}`),
			history.Build{Args: map[string]string{"API_TOKEN": "sha256:a"}}, history.Build{Args: map[string]string{"API_TOKEN": "sha256:b"}},
			[]string{"build argument API_TOKEN changed"},
		},
		"what is made of a secret argument": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{"env":["URL=http://s3cret@h"],"user":"s3cret"}`), exec(`"meta":{"env":["URL=http://s4cret@h"],"user":"s4cret"}`),
			history.Build{Args: map[string]string{"API_TOKEN": "sha256:a"}}, history.Build{Args: map[string]string{"API_TOKEN": "sha256:b"}},
			[]string{"environment URL changed", "user changed"},
		},
		"a user and a directory": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{"user":"1","cwd":"/a"}`), exec(`"meta":{"user":"2","cwd":"/b"}`),
			history.Build{}, history.Build{}, []string{`working directory: "/a" → "/b"`, `user: "1" → "2"`},
		},
		"a network": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{}`), exec(`"meta":{},"network":1`), history.Build{}, history.Build{}, []string{`network: "default" → "host"`},
		},
		"extra hosts": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{"extraHosts":[{"Host":"a"}]}`), exec(`"meta":{}`), history.Build{}, history.Build{},
			[]string{"extra hosts: no longer set"},
		},
		"a mount": {
			"[1/1] RUN --mount=a x", "[1/1] RUN --mount=b x", exec(`"meta":{"args":["x"]},"mounts":[{"dest":"/a"}]`), exec(`"meta":{"args":["x"]},"mounts":[{"dest":"/b"}]`),
			history.Build{}, history.Build{}, []string{"the instruction changed"},
		},
		"an epoch": {
			"[1/1] COPY a /", "[1/1] COPY a /", file(`"Action":{"copy":{"src":"a","timestamp":-1}}`), file(`"Action":{"copy":{"src":"a","timestamp":5}}`),
			history.Build{}, history.Build{}, []string{`SOURCE_DATE_EPOCH: set to "5"`},
		},
		"a here-document": {
			"[1/1] COPY <<E /", "[1/1] COPY <<E /", file(`"Action":{"mkfile":{"data":"YQ=="}}`), file(`"Action":{"mkfile":{"data":"Yg=="}}`),
			history.Build{}, history.Build{}, []string{"the instruction changed"},
		},
		"another action": {
			"[1/1] ADD a /", "[1/1] ADD a /", file(`"Action":{"mkdir":{}}`), file(`"Action":{"copy":{}}`), history.Build{}, history.Build{},
			[]string{"the instruction changed"},
		},
		"the credentials of a URL": {
			"[1/1] RUN x", "[1/1] RUN x", history.Ingredient{Kind: "operation", Name: "exec", Value: "{} sha256:a"},
			history.Ingredient{Kind: "operation", Name: "exec", Value: "{} sha256:b"}, history.Build{}, history.Build{}, []string{"the credentials of a URL changed"},
		},
		"the order of variables": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{"args":["x"],"env":["A=1","B=2"]}`), exec(`"meta":{"args":["x"],"env":["B=2","A=1"]}`),
			history.Build{}, history.Build{}, []string{"order of the environment changed"},
		},
		"the size of shared memory": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{},"mounts":[{"dest":"/"}]`), exec(`"meta":{},"mounts":[{"dest":"/"},{"dest":"/dev/shm","TmpfsOpt":{"size":1024}}]`),
			history.Build{}, history.Build{}, []string{`size of /dev/shm: set to "1024"`},
		},
		"an SSH mount": {
			"[1/1] RUN x", "[1/1] RUN --mount=type=ssh x", exec(`"meta":{"args":["x"]},"mounts":[]`), exec(`"meta":{"args":["x"],"env":["SSH_AUTH_SOCK=/s"]},"mounts":[{"dest":"/s"}]`),
			history.Build{}, history.Build{}, []string{"the instruction changed"},
		},
		"nothing that is known": {
			"[1/1] RUN x", "[1/1] RUN x", exec(`"meta":{"proxy_env":1}`), exec(`"meta":{"proxy_env":2}`), history.Build{}, history.Build{},
			[]string{"its key differs from that in build build1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			old := l.step(tt.oldName, []history.Ingredient{tt.old})
			s := l.step(tt.nowName, []history.Ingredient{tt.now})
			if tt.build.Text != "" {
				old.Line, s.Line = 2, 2
			}
			l.build(&tt.oldBuild, old)
			b := l.build(&tt.build, s)
			var got []string
			for _, c := range New(l.builds, b).Why(s, history.Pruned) {
				got = append(got, c.Text(b.StepName))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			checkExcerpt(t, l, &tt.oldBuild, b, s, name)
		})
	}
}

// layers is the ingredient of what a step is built on, its first input.
func layers(on *history.Step) history.Ingredient {
	return history.Ingredient{Kind: "layers", Name: "/", Value: on.Output.String()}
}

// source is a base image.
func source(id string, layers ...digest.Digest) *history.Step {
	return &history.Step{
		Vertex: digest.FromString(id), Name: "[1/3] FROM " + id, State: history.StepRan, Output: digest.FromString(fmt.Sprint(layers)),
		Source: &history.Source{Identifier: "docker-image://docker.io/library/" + id, Layers: layers},
	}
}

// git is an ADD of a repository that is at a commit.
func git(l *lab, pin, flags string) []*history.Step {
	src := l.step("[2/3] ADD "+flags+"http://h/r.git /", []history.Ingredient{{Kind: "source", Name: "remote", Value: pin, Input: -1}})
	src.Vertex, src.Source = digest.FromString("source"+flags), &history.Source{Identifier: "git://h/r.git", URL: "http://h/r.git"}
	add := l.step(src.Name, []history.Ingredient{exec(""), {Kind: "source", Name: "/", Value: digest.FromString(pin).String(), Input: 0}}, src)
	add.Vertex = digest.FromString("add" + flags)
	return []*history.Step{src, add}
}

// TestBeneath: what a step is built on, and the chain of causes to its beginning.
func TestBeneath(t *testing.T) {
	t.Parallel()
	const one, two, three = "[2/3] RUN one", "[3/3] RUN two", "[3/4] RUN three"
	for name, tt := range map[string]struct {
		old, now func(l *lab) []*history.Step
		want     []string // the causes of the last step, then the roots
	}{
		"the base": {
			func(l *lab) []*history.Step {
				base := source("debian:12@x", "a")
				return []*history.Step{base, l.step(one, []history.Ingredient{exec(""), layers(base)}, base)}
			},
			func(l *lab) []*history.Step {
				base := source("debian:12@y", "a", "b")
				return []*history.Step{base, l.step(one, []history.Ingredient{exec(""), layers(base)}, base)}
			},
			[]string{"base image debian:12 changed (1 layer)", "base image debian:12 changed (1 layer)"},
		},
		"another base": {
			func(l *lab) []*history.Step {
				base := source("debian:11@x", "a")
				return []*history.Step{base, l.step(one, []history.Ingredient{exec(""), layers(base)}, base)}
			},
			func(l *lab) []*history.Step {
				base := source("debian:12@y", "b")
				return []*history.Step{base, l.step(one, []history.Ingredient{exec(""), layers(base)}, base)}
			},
			[]string{"base image debian:11 → debian:12", "base image debian:11 → debian:12"},
		},
		"a step beneath": {
			func(l *lab) []*history.Step {
				a := l.step(one, []history.Ingredient{exec(`"meta":{"user":"1"}`)})
				return []*history.Step{a, l.step(two, []history.Ingredient{exec(""), layers(a)}, a)}
			},
			func(l *lab) []*history.Step {
				a := l.step(one, []history.Ingredient{exec(`"meta":{"user":"2"}`)})
				return []*history.Step{a, l.step(two, []history.Ingredient{exec(""), layers(a)}, a)}
			},
			[]string{"[2/3] RUN one gave another result", `user: "1" → "2"`},
		},
		"a new step": {
			func(l *lab) []*history.Step {
				a := l.step(one, []history.Ingredient{exec("")})
				return []*history.Step{a, l.step(two, []history.Ingredient{exec(""), layers(a)}, a)}
			},
			func(l *lab) []*history.Step {
				a := l.step(one, []history.Ingredient{exec("")})
				n := l.step(three, []history.Ingredient{exec(""), layers(a)}, a)
				return []*history.Step{a, n, l.step("[4/4] RUN two", []history.Ingredient{exec(""), layers(n)}, n)}
			},
			[]string{"new step [3/4] RUN three", "new step [3/4] RUN three"},
		},
		"a COPY that is linked now": {
			func(l *lab) []*history.Step {
				a := l.step("[2/3] COPY a /", []history.Ingredient{exec(`"meta":{"user":"1"}`)})
				return []*history.Step{a, l.step(two, []history.Ingredient{exec(""), layers(a)}, a)}
			},
			func(l *lab) []*history.Step {
				a := l.step("[2/3] COPY --link a /", []history.Ingredient{exec(`"meta":{"user":"2"}`)})
				link := l.step("[2/3] LINK COPY --link a /", nil, a)
				link.Key = ""
				return []*history.Step{a, link, l.step(two, []history.Ingredient{exec(""), layers(link)}, link)}
			},
			[]string{"[2/3] COPY --link a / gave another result", `user: "1" → "2"`},
		},
		"a repository": {
			func(l *lab) []*history.Step { return git(l, "aaaa", "") },
			func(l *lab) []*history.Step { return git(l, "bbbb", "") },
			[]string{"http://h/r.git changed", "http://h/r.git changed"},
		},
		"the same commit in another form": {
			func(l *lab) []*history.Step { return git(l, "aaaa", "") },
			func(l *lab) []*history.Step { return git(l, "aaaa.git#refs/heads/main", "--keep-git-dir ") },
			[]string{"the instruction changed", "the instruction changed"},
		},
		"a step that went": {
			func(l *lab) []*history.Step {
				a := l.step(one, []history.Ingredient{exec("")})
				n := l.step(three, []history.Ingredient{exec(""), layers(a)}, a)
				return []*history.Step{a, n, l.step("[4/4] RUN two", []history.Ingredient{exec(""), layers(n)}, n)}
			},
			func(l *lab) []*history.Step {
				a := l.step(one, []history.Ingredient{exec("")})
				return []*history.Step{a, l.step(two, []history.Ingredient{exec(""), layers(a)}, a)}
			},
			[]string{"step [3/4] RUN three was removed", "step [3/4] RUN three was removed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.build(&history.Build{}, tt.old(l)...)
			steps := tt.now(l)
			b := l.build(&history.Build{}, steps...)
			x := New(l.builds, b)
			for _, s := range steps {
				s.Causes = x.Differences(s)
			}
			last := steps[len(steps)-1]
			var got []string
			for _, c := range append(slices.Clone(last.Causes), x.Roots(last)...) {
				got = append(got, c.Text(b.StepName))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestVariants: a build is compared with the latest one of the same arguments and platforms, if there is one.
func TestVariants(t *testing.T) {
	t.Parallel()
	const name = "[1/1] RUN a"
	variant := func(v, user string) []history.Ingredient {
		return []history.Ingredient{exec(fmt.Sprintf(`"meta":{"user":%q,"env":["V=%s"]}`, user, v))}
	}
	l := newLab(t)
	for _, v := range []string{"1", "2"} {
		l.build(&history.Build{Args: map[string]string{"V": v}}, l.step(name, variant(v, "old")))
	}
	s := l.step(name, variant("1", "new"))
	b := l.build(&history.Build{Args: map[string]string{"V": "1"}}, s)
	if got := history.Summary(New(l.builds, b).Why(s, history.Pruned), b.StepName); got != `user: "old" → "new"` {
		t.Errorf("%q", got)
	}
}

// TestManyFiles: the causes of a step that reads many changed files are bounded, and found in one pass.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	list := func(mode os.FileMode) history.Ingredient {
		dir := t.TempDir()
		for i := range 3 * maxCauses {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, mode); err != nil {
				t.Fatal(err)
			}
		}
		from, err := view.Dir(dir, view.DirOptions{Anonymous: true})
		if err != nil {
			t.Fatal(err)
		}
		files, err := view.List(context.Background(), from, "/", view.CopyOptions{DirCopyContents: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.builds.SaveFiles(files.Digest(), files.Marshal()); err != nil {
			t.Fatal(err)
		}
		return history.Ingredient{Kind: "source", Name: "/", Value: files.Digest().String(), Input: -1}
	}
	l.build(&history.Build{}, l.step("[1/1] COPY . /", []history.Ingredient{list(0o644)}))
	s := l.step("[1/1] COPY . /", []history.Ingredient{list(0o600)})
	b := l.build(&history.Build{}, s)
	got := New(l.builds, b).Why(s, history.Pruned)
	if len(got) != maxCauses+1 || got[maxCauses].Kind != history.Unknown {
		t.Errorf("%d causes, the last is %+v", len(got), got[len(got)-1])
	}
}

// TestDownloads: a file over http is named by its URL, in the step that fetches it and in the one that copies it.
func TestDownloads(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	build := func(content string) *history.Build {
		pin := history.Ingredient{Kind: "source", Name: "remote", Value: content, Input: -1}
		fetch := l.step("[1/2] ADD https://example.com/a /", []history.Ingredient{pin})
		fetch.Source = &history.Source{Identifier: "https://example.com/a"}
		copied := history.Ingredient{Kind: "source", Name: "/a", Value: digest.FromString(content).String(), Input: 0}
		return l.build(&history.Build{}, fetch, l.step("[2/2] ADD https://example.com/a /", []history.Ingredient{copied}, fetch))
	}
	build("one")
	b := build("two")
	x := New(l.builds, b)
	for _, s := range b.Steps {
		if got := history.Summary(x.Why(s, history.Pruned), b.StepName); got != "https://example.com/a changed" {
			t.Errorf("%s: %q", s.Name, got)
		}
	}
}

// TestScratch: a stage that begins with an image, or no longer does.
func TestScratch(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	base := source("debian:12@x", "a")
	with := func() *history.Step {
		return l.step("[2/2] COPY a /", []history.Ingredient{exec(""), layers(base)}, base)
	}
	without := func() *history.Step { return l.step("[1/1] COPY a /", []history.Ingredient{exec("")}) }
	one := with()
	first := l.build(&history.Build{}, base, one)
	two := without()
	second := l.build(&history.Build{}, two)
	if got := history.Summary(Against(l.builds, second, first).Differences(two), second.StepName); got != "base image debian:12 → scratch" {
		t.Errorf("%q", got)
	}
	if got := history.Summary(Against(l.builds, first, second).Differences(one), first.StepName); got != "base image scratch → debian:12" {
		t.Errorf("%q", got)
	}
}

// TestWhyOfTheSameKey: a step whose key is that of before.
func TestWhyOfTheSameKey(t *testing.T) {
	t.Parallel()
	const name = "[1/1] RUN a"
	for want, tt := range map[string]struct {
		missed history.Kind
		state  history.State
		status history.Status
	}{
		"its record was pruned from the build cache": {history.Pruned, history.StepCached, history.Completed},
		"its layers are no longer in the store":      {history.Gone, history.StepRan, history.Completed},
		"the cache is not used for it (--no-cache)":  {history.NoCache, history.StepRan, history.Completed},
		"it failed the last time":                    {history.Pruned, history.StepFailed, history.Failed},
		"it was canceled the last time":              {history.Pruned, history.StepCanceled, history.Canceled},
		"":                                           {history.Pruned, "", history.Failed}, // it was not reached
	} {
		l := newLab(t)
		old := l.step(name, []history.Ingredient{exec("")})
		old.State = tt.state
		l.build(&history.Build{Status: tt.status}, old)
		s := l.step(name, []history.Ingredient{exec("")})
		b := l.build(&history.Build{}, s)
		if got := history.Summary(New(l.builds, b).Why(s, tt.missed), b.StepName); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestEarlierBuilds: a step that a failed build did not reach is compared with the build before that. A completed build that had no
// such step ends the search.
func TestEarlierBuilds(t *testing.T) {
	t.Parallel()
	const name = "[1/1] RUN a"
	l := newLab(t)
	l.build(&history.Build{}, l.step(name, []history.Ingredient{exec(`"meta":{"user":"1"}`)}))
	failed := l.step(name, []history.Ingredient{exec(`"meta":{"user":"2"}`)})
	failed.State = ""
	l.build(&history.Build{Status: history.Failed}, failed)
	s := l.step(name, []history.Ingredient{exec(`"meta":{"user":"3"}`)})
	b := l.build(&history.Build{}, s)
	if got := history.Summary(New(l.builds, b).Why(s, history.Pruned), b.StepName); got != `user: "1" → "3"` {
		t.Errorf("after a failed build: %q", got)
	}
	l.build(&history.Build{}, l.step("[1/1] COPY x /", []history.Ingredient{exec("")}))
	again := l.step(name, []history.Ingredient{exec(`"meta":{"user":"4"}`)})
	b = l.build(&history.Build{}, again)
	if got := New(l.builds, b).Why(again, history.Pruned); len(got) != 0 {
		t.Errorf("after a build without the step: %v", got)
	}
}

// TestUnknown: where a record is gone, that is said.
func TestUnknown(t *testing.T) {
	t.Parallel()
	const name = "[1/1] RUN a"
	l := newLab(t)
	old := &history.Step{Vertex: "v", Name: name, Key: digest.FromString("gone"), State: history.StepRan}
	l.build(&history.Build{}, old)
	s := l.step(name, []history.Ingredient{exec("")})
	b := l.build(&history.Build{}, s)
	if got := history.Summary(New(l.builds, b).Why(s, history.Pruned), b.StepName); got != "what the step read in build build1 is no longer recorded" {
		t.Errorf("%q", got)
	}
}

// TestBackToAnEarlierVersion: a step that an earlier build had with the same key ran since that result is gone, whatever the build before had.
func TestBackToAnEarlierVersion(t *testing.T) {
	t.Parallel()
	const name = "[1/1] RUN a"
	user := func(u string) []history.Ingredient {
		return []history.Ingredient{exec(fmt.Sprintf(`"meta":{"user":%q}`, u))}
	}
	for state, want := range map[history.State]string{
		history.StepRan:    "its record of build build1 was pruned from the build cache",
		history.StepCached: "its record of build build1 was pruned from the build cache",
		history.StepFailed: `user: "2" → "1"`, // it never had a record
	} {
		l := newLab(t)
		first := l.step(name, user("1"))
		first.State = state
		l.build(&history.Build{}, first)
		l.build(&history.Build{}, l.step(name, user("2")))
		s := l.step(name, user("1"))
		b := l.build(&history.Build{}, s)
		if list := New(l.builds, b).Why(s, history.Pruned); len(list) != 1 || list[0].Text(b.StepName) != want {
			t.Errorf("%s: %+v, want %q", state, list, want)
		}
		if list := New(l.builds, b).Why(s, history.NoCache); len(list) != 1 || list[0].Kind != history.NoCache {
			t.Errorf("%s, with --no-cache: %+v", state, list)
		}
	}
}

// TestResultOfARemoteCache: of a step that a remote cache had, what it was made of may not be known.
func TestResultOfARemoteCache(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	found := l.step("[1/1] RUN a", []history.Ingredient{exec("")})
	found.Key, found.State = "", history.StepCached
	l.build(&history.Build{}, found)
	s := l.step("[1/1] RUN a", []history.Ingredient{exec(`"meta":{"user":"1"}`)})
	b := l.build(&history.Build{}, s)
	list := New(l.builds, b).Why(s, history.Pruned)
	if len(list) != 1 || list[0].Text(b.StepName) != "a remote cache had its result in build build1: what it was made of is not known" {
		t.Errorf("%+v", list)
	}
}
