package explain

import (
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
)

// chain makes steps of which each is built on the one before. A name with "=" has the output after it; a name that begins with "FROM" is
// the source of a base image.
func chain(specs ...string) *history.Build {
	b := &history.Build{Platforms: []string{"linux/amd64"}}
	for i, spec := range specs {
		name, output := spec, spec
		for j := range spec {
			if spec[j] == '=' {
				name, output = spec[:j], spec[j+1:]
			}
		}
		s := &history.Step{
			Name: fmt.Sprintf("[%d/%d] %s", i+1, len(specs), name), Key: digest.FromString("key of " + output), Output: digest.FromString(output), State: history.StepRan,
		}
		s.Vertex = digest.FromString(s.Name)
		if i > 0 {
			s.Inputs = []digest.Digest{b.Steps[i-1].Vertex}
		}
		if len(name) > 5 && name[:5] == "FROM " {
			s.Key, s.Source = "", &history.Source{Identifier: "docker-image://" + name[5:], Layers: []digest.Digest{s.Output}}
		}
		b.Steps = append(b.Steps, s)
	}
	return b
}

// TestOtherBase: why the last step of a build stands on another result than that of an earlier build.
func TestOtherBase(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		old, now *history.Build
		want     []string
	}{
		"nothing beneath either":    {chain(), chain(), nil},
		"a base image, and scratch": {chain("FROM a:1"), chain(), []string{"base image a:1 → scratch"}},
		"scratch, and a base image": {chain(), chain("FROM a:1"), []string{"base image scratch → a:1"}},
		"another base image":        {chain("FROM a:1"), chain("FROM a:2"), []string{"base image a:1 → a:2"}},
		"another result":            {chain("FROM a:1", "RUN x=1"), chain("FROM a:1", "RUN x=2"), []string{"[2/2] RUN x gave another result"}},
		"a new step":                {chain("FROM a:1"), chain("FROM a:1", "RUN x"), []string{"new step [2/2] RUN x"}},
		"a new step on another base": {
			chain("FROM a:1"), chain("FROM a:2", "RUN x"), []string{"new step [2/2] RUN x", "base image a:1 → a:2"},
		},
		"a step less":        {chain("FROM a:1", "RUN x"), chain("FROM a:1"), []string{"step [2/2] RUN x was removed"}},
		"two steps less":     {chain("FROM a:1", "RUN x", "RUN y"), chain("FROM a:1"), []string{"step [3/3] RUN y was removed", "step [2/3] RUN x was removed"}},
		"all steps less":     {chain("RUN x"), chain(), []string{"step [1/1] RUN x was removed"}},
		"the last step less": {chain("FROM a:1", "RUN x", "RUN y"), chain("FROM a:1", "RUN x"), []string{"step [3/3] RUN y was removed"}},
	} {
		c := &comparison{e: &Explainer{}, now: tt.now, old: tt.old}
		last := func(b *history.Build) *history.Step {
			if len(b.Steps) == 0 {
				return nil
			}
			return b.Steps[len(b.Steps)-1]
		}
		if got := texts(tt.now, c.beneath(last(tt.now), last(tt.old))); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestJoinedParts: a step without a key, as that of a COPY --link, is explained by those of its parts that are not the same.
func TestJoinedParts(t *testing.T) {
	t.Parallel()
	build := func(one, two string) *history.Build {
		b := chain("FROM a:1", "RUN one="+one, "RUN two="+two)
		b.Steps[2].Inputs = []digest.Digest{b.Steps[0].Vertex}
		merge := &history.Step{Vertex: "merge", Name: "[4/4] LINK x", Inputs: []digest.Digest{b.Steps[1].Vertex, b.Steps[2].Vertex}, Output: digest.FromString(one + two)}
		b.Steps = append(b.Steps, merge)
		return b
	}
	for name, tt := range map[string]struct {
		now  *history.Build
		want []string
	}{
		"one":     {build("9", "2"), []string{"[2/3] RUN one gave another result"}},
		"two":     {build("1", "9"), []string{"[3/3] RUN two gave another result"}},
		"both":    {build("8", "9"), []string{"[2/3] RUN one gave another result", "[3/3] RUN two gave another result"}},
		"nothing": {build("1", "2"), []string{"the instruction changed"}},
	} {
		old := build("1", "2")
		c := &comparison{e: &Explainer{}, now: tt.now, old: old}
		if got := texts(tt.now, c.beneath(tt.now.Steps[3], old.Steps[3])); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestUnknownDifferences: what cannot be known is said, in place of a guess.
func TestUnknownDifferences(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	saved := []history.Ingredient{exec(`"meta":{"args":["x"]}`)}
	one, two := l.step("[1/1] RUN x", saved), l.step("[1/1] RUN x", append(saved, history.Ingredient{Kind: "other", Name: "x", Value: "1"}))
	lost := &history.Step{Name: one.Name, Vertex: one.Vertex, Key: digest.FromString("lost")}
	cached := &history.Step{Name: one.Name, Vertex: one.Vertex, State: history.StepCached}
	for name, tt := range map[string]struct {
		now, old *history.Step
		want     []string
	}{
		"the same key":                {one, one, nil},
		"a source":                    {cached, one, nil},
		"no key before":               {one, cached, []string{"a remote cache had its result in build ref: what it was made of is not known"}},
		"no ingredients now":          {lost, one, []string{"what the step read was not recorded"}},
		"no ingredients before":       {one, lost, []string{"what the step read in build ref is no longer recorded"}},
		"an ingredient of a new kind": {two, one, []string{"its key differs from that in build ref"}},
	} {
		c := &comparison{e: New(l.builds, &history.Build{}), now: &history.Build{}, old: &history.Build{Ref: "ref"}}
		c.pair()
		if got := texts(c.now, c.differences(tt.now, tt.old)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestManyCauses: a step has a bounded number of causes, each once, and says that there are more.
func TestManyCauses(t *testing.T) {
	t.Parallel()
	d := &difference{seen: map[history.Cause]bool{}}
	for i := range maxCauses + 10 {
		c := history.Cause{Kind: history.File, Name: fmt.Sprint(i), Change: history.Added}
		d.add(c, c)
	}
	if n := len(d.causes); n != maxCauses+1 || d.causes[maxCauses].Name != "more files changed than are listed" || d.causes[1].Name != "1" {
		t.Errorf("%d causes, the last is %+v", n, d.causes[n-1])
	}
}

// TestDownloadNames: what is known of a source over http or git.
func TestDownloadNames(t *testing.T) {
	t.Parallel()
	source := func(identifier, url string) *history.Step {
		return &history.Step{Source: &history.Source{Identifier: identifier, URL: url}}
	}
	for want, s := range map[string]*history.Step{
		"https://h/f":         source("https://h/f", ""),
		"http://h/f":          source("http://h/f", ""),
		"https://h/x.git#tag": source("git://h/x.git#tag", "https://h/x.git#tag"),
	} {
		if got := downloaded(s); got != want {
			t.Errorf("%+v: %q, want %q", s.Source, got, want)
		}
	}
	for _, s := range []*history.Step{nil, {}, source("local://context", ""), source("docker-image://a", "")} {
		if got := downloaded(s); got != "" {
			t.Errorf("%+v: %q", s, got)
		}
	}
	for pin, want := range map[string]string{
		"0123abc": "0123abc", "0123abc.keep": "0123abc", "0123abc:sub": "0123abc", "0123abc(x)": "0123abc", "sha256:a.b": "sha256:a.b", "": "",
	} {
		if got := commitOf(pin); got != want {
			t.Errorf("%q: %q, want %q", pin, got, want)
		}
	}
}

// TestIgnores: only an ignore file that was edited explains a file that is there, or is not.
func TestIgnores(t *testing.T) {
	t.Parallel()
	source := func(patterns ...string) *history.Step {
		return &history.Step{Source: &history.Source{Excludes: patterns}}
	}
	for name, tt := range map[string]struct {
		before, now *history.Step
		path        string
		was, is     bool
	}{
		"a pattern more":     {source(), source("*.log"), "a.log", false, true},
		"a pattern less":     {source("*.log"), source(), "a.log", true, false},
		"the same patterns":  {source("*.log"), source("*.log"), "a.log", false, false},
		"another path":       {source(), source("*.log"), "a.txt", false, false},
		"below a directory":  {source(), source("tmp"), "tmp/x/y", false, true},
		"an exception":       {source("*"), source("*", "!a"), "a", true, false},
		"an invalid pattern": {source(), source("["), "a", false, false},
		"no source":          {&history.Step{}, source("*"), "a", false, false},
		"no step":            {nil, source("*"), "a", false, false},
	} {
		if was, is := ignores(tt.now, tt.before)(tt.path); was != tt.was || is != tt.is {
			t.Errorf("%s: %t, %t", name, was, is)
		}
	}
}

// TestProxy: the network of a process is a proxy now, or no longer is.
func TestProxy(t *testing.T) {
	t.Parallel()
	op := func(network string) history.Ingredient { return exec(`"meta":{"args":["x"]}` + network) }
	proxy := history.Ingredient{Kind: "network", Value: "proxy", Input: -1}
	for name, tt := range map[string]struct {
		old, now []history.Ingredient
		want     string
	}{
		"on":              {[]history.Ingredient{op("")}, []history.Ingredient{op(""), proxy}, `network: "default" → "proxy"`},
		"off":             {[]history.Ingredient{op(""), proxy}, []history.Ingredient{op("")}, `network: "proxy" → "default"`},
		"from the host's": {[]history.Ingredient{op(`,"network":1`)}, []history.Ingredient{op(""), proxy}, `network: "host" → "proxy"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.build(&history.Build{}, l.step("[1/1] RUN x", tt.old))
			s := l.step("[1/1] RUN x", tt.now)
			b := l.build(&history.Build{}, s)
			causes := New(l.builds, b).Why(s, history.Pruned)
			if got := texts(b, causes); !slices.Equal(got, []string{tt.want}) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
