package explain

import (
	"maps"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
)

func argument(name, old, now string) variable { return variable{history.Argument, name, old, now} }

func environment(name, old, now string) variable {
	return variable{history.Environment, name, old, now}
}

// TestDerived: a text that differs from another by the values of variables, and by nothing else, is explained by these.
func TestDerived(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args     []variable
		old, now string
		want     []string // nil if it is not explained
	}{
		"one value":             {[]variable{argument("V", "1.0", "1.1")}, "app-1.0.tar", "app-1.1.tar", []string{`build argument V: "1.0" → "1.1"`}},
		"twice":                 {[]variable{argument("V", "a", "b")}, "a/a", "b/b", []string{`build argument V: "a" → "b"`}},
		"another edit":          {[]variable{argument("V", "1.0", "1.1")}, "app-1.0.tar", "web-1.1.tar", nil},
		"no variable":           {nil, "a", "b", nil},
		"an unused one":         {[]variable{argument("V", "x", "y")}, "a", "b", nil},
		"two values":            {[]variable{argument("A", "1", "2"), argument("B", "x", "y")}, "1x", "2y", []string{`build argument A: "1" → "2"`, `build argument B: "x" → "y"`}},
		"the one that explains": {[]variable{argument("A", "q", "r"), argument("B", "x", "y")}, "1x", "1y", []string{`build argument B: "x" → "y"`}},
		"set for the first time": {
			[]variable{argument("V", "", "-g")}, "gcc  a.c", "gcc -g a.c", []string{`build argument V: set to "-g"`},
		},
		"no longer set":           {[]variable{argument("V", "-g", "")}, "gcc -g a.c", "gcc  a.c", []string{"build argument V: no longer set"}},
		"a variable of ENV":       {[]variable{environment("E", "dev", "prod")}, "run dev", "run prod", []string{`environment E: "dev" → "prod"`}},
		"an argument before ENV":  {[]variable{environment("E", "dev", "prod"), argument("A", "dev", "prod")}, "dev", "prod", []string{`build argument A: "dev" → "prod"`}},
		"of two kinds at once":    {[]variable{environment("E", "1", "2"), argument("A", "x", "y")}, "1x", "2y", nil},
		"a secret without values": {[]variable{argument("API_TOKEN", "s1", "s2")}, "curl s1", "curl s2", []string{"build argument API_TOKEN changed"}},
	} {
		d := &difference{comparison: &comparison{args: tt.args}, seen: map[history.Cause]bool{}}
		ok := d.derived(tt.old, tt.now)
		if got := texts(&history.Build{}, d.causes); ok != (tt.want != nil) || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %t, %q, want %q", name, ok, got, tt.want)
		}
	}
}

// TestChangedVariables: arguments that were given take the place of the defaults of the Dockerfile.
func TestChangedVariables(t *testing.T) {
	t.Parallel()
	build := func(text string, args map[string]string) *history.Build {
		return &history.Build{Text: text, Args: args}
	}
	given := func(v string) map[string]string { return map[string]string{"V": v} }
	for name, tt := range map[string]struct {
		old, now *history.Build
		want     []variable
	}{
		"nothing":                  {build("FROM a\nARG V=1\n", nil), build("FROM a\nARG V=1\n", nil), nil},
		"a default":                {build("FROM a\nARG V=1\n", nil), build("FROM a\nARG V=2\n", nil), []variable{argument("V", "1", "2")}},
		"given as the default":     {build("FROM a\nARG V=1\n", nil), build("FROM a\nARG V=1\n", given("1")), nil},
		"given in its place":       {build("FROM a\nARG V=1\n", nil), build("FROM a\nARG V=1\n", given("3")), []variable{argument("V", "1", "3")}},
		"a default that is unused": {build("FROM a\nARG V=1\n", given("3")), build("FROM a\nARG V=2\n", given("3")), nil},
		"several defaults":         {build("FROM a\nARG A=1 B=\"2\"\n", nil), build("FROM a\nARG A=1 B='3'\n", nil), []variable{argument("B", "2", "3")}},
		"ENV":                      {build("FROM a\nENV A=1 B=2\n", nil), build("FROM a\nENV A=1 B=3\n", nil), []variable{environment("B", "2", "3")}},
		"ENV in its old form":      {build("FROM a\nENV A 1\n", nil), build("FROM a\nENV A 2\n", nil), []variable{environment("A", "1", "2")}},
		"a text that is none":      {build("FROM a\nENV A=1\n", nil), build("\x00", nil), []variable{environment("A", "1", "")}},
	} {
		c := &comparison{e: &Explainer{}, now: tt.now, old: tt.old}
		c.pair()
		if !slices.Equal(c.args, tt.want) {
			t.Errorf("%s: %+v, want %+v", name, c.args, tt.want)
		}
	}
}

// TestEnvironment: a variable is explained by a build argument, by the base image, or by itself.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	build := func(text, image string, env ...string) *history.Build {
		b := chain("FROM "+image, "RUN x")
		b.Text, b.Steps[0].Source.Env = text, env
		return b
	}
	same := "FROM a\nRUN x\n"
	for name, tt := range map[string]struct {
		old, now       *history.Build
		oldEnv, nowEnv []string
		want           []string
	}{
		"nothing":          {build(same, "a@sha256:1"), build(same, "a@sha256:1"), []string{"A=1"}, []string{"A=1"}, nil},
		"the order":        {build(same, "a@sha256:1"), build(same, "a@sha256:1"), []string{"A=1", "B=2"}, []string{"B=2", "A=1"}, []string{"order of the environment changed"}},
		"a value":          {build(same, "a@sha256:1"), build(same, "a@sha256:1"), []string{"A=1"}, []string{"A=2"}, []string{`environment A: "1" → "2"`}},
		"the base image's": {build(same, "a@sha256:1", "A=1"), build(same, "a@sha256:2", "A=2"), []string{"A=1"}, []string{"A=2"}, []string{"base image a changed"}},
		"of the base alone": {
			build(same, "a@sha256:1"), build(same, "a@sha256:2"), []string{"PATH=/bin"}, []string{"PATH=/bin:/sbin"}, []string{"base image a changed"},
		},
		"an argument's": {
			build("ARG V=1\n"+same, "a@sha256:1"), build("ARG V=2\n"+same, "a@sha256:1"), []string{"V=1"}, []string{"V=2"}, []string{`build argument V: "1" → "2"`},
		},
		"empty, and not set": {build(same, "a@sha256:1"), build(same, "a@sha256:1"), nil, []string{"A="}, []string{"environment A changed"}},
		"beside a secret": {
			build("ARG API_TOKEN=1\n"+same, "a@sha256:1"), build("ARG API_TOKEN=2\n"+same, "a@sha256:1"), []string{"B=x"}, []string{"B=y"}, []string{"environment B changed"},
		},
	} {
		for _, b := range []*history.Build{tt.old, tt.now} {
			b.Steps[0].Source.Layers = []digest.Digest{"sha256:l"}
		}
		c := &comparison{e: &Explainer{}, now: tt.now, old: tt.old}
		c.pair()
		d := &difference{comparison: c, step: tt.now.Steps[1], oldStep: tt.old.Steps[1], seen: map[history.Cause]bool{}}
		d.environment(tt.nowEnv, tt.oldEnv)
		if got := texts(tt.now, d.causes); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestEnviron: the last of several values counts, and a value may have signs of equality.
func TestEnviron(t *testing.T) {
	t.Parallel()
	got := environ([]string{"A=1", "B=x=y", "C", "A=2"})
	if want := map[string]string{"A": "2", "B": "x=y", "C": ""}; !maps.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
