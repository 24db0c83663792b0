package recorder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// TestNames: builds of one thing have the same names of it, however it was named.
func TestNames(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		spec                buildspec.Spec
		context, dockerfile string
	}{
		{buildspec.Spec{Path: "."}, here, here + "/Dockerfile"},
		{buildspec.Spec{Path: here}, here, here + "/Dockerfile"},
		{buildspec.Spec{Path: here + "/x/.."}, here, here + "/Dockerfile"},
		{buildspec.Spec{Path: ".", Dockerfile: "Dockerfile"}, here, here + "/Dockerfile"},
		{buildspec.Spec{Path: ".", Dockerfile: "x/D"}, here, here + "/x/D"},
		{buildspec.Spec{Path: ".", Dockerfile: "-"}, here, "-"},
		{buildspec.Spec{Path: "-"}, "-", ""},
		{buildspec.Spec{}, "", ""},
		{buildspec.Spec{Path: "https://h/x.git#main", Dockerfile: "D"}, "https://h/x.git#main", "D"},
		{buildspec.Spec{Path: "https://u:pw@h/x.git"}, "https://xxxxx:xxxxx@h/x.git", ""},
	} {
		r := start(t, newStore(t), Options{Spec: &tt.spec})
		b := r.Build()
		if b.Context != tt.context || b.Dockerfile != tt.dockerfile || b.Line != history.LineOf(tt.context, tt.dockerfile, "") {
			t.Errorf("%q, %q: %q and %q", tt.spec.Path, tt.spec.Dockerfile, b.Context, b.Dockerfile)
		}
	}
}

// TestArguments: what is recorded of build arguments, platforms and the like. A short secret is in texts by chance, and stays there.
func TestArguments(t *testing.T) {
	t.Parallel()
	spec := &buildspec.Spec{
		Path: "/context", BuildArgs: map[string]string{"A": "1", "HTTP_PROXY": "http://u:pw@p/", "no_proxy": "h", "DB_PASSWORD": "hunter22", "SHORT_TOKEN": "ab", "URL": "https://u:pw@h/"},
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm", Variant: "v7"}, {OS: "linux", Architecture: "x86_64"}},
	}
	s := newStore(t)
	r := start(t, s, Options{Spec: spec})
	now := time.Now()
	r.Events(&solver.Status{Vertexes: []*client.Vertex{{
		Digest: "sha256:a", Name: "RUN login hunter22 ab", Started: &now, Completed: &now, Error: "login hunter22 failed",
	}}})
	if err := r.End("", errors.New("hunter22: denied")); err != nil {
		t.Fatal(err)
	}
	b, err := history.Open(s).Find("")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"A": "1", "URL": "https://xxxxx:xxxxx@h/", "DB_PASSWORD": digest.FromString("hunter22").String(), "SHORT_TOKEN": digest.FromString("ab").String(),
	}
	if fmt.Sprint(b.Args) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", b.Args, want)
	}
	if !slices.Equal(b.Platforms, []string{"linux/arm/v7", "linux/amd64"}) {
		t.Errorf("%q", b.Platforms)
	}
	if step := b.Steps[0]; step.Name != "RUN login xxxxx ab" || step.Error != "login xxxxx failed" || b.Error != "xxxxx: denied" {
		t.Errorf("%q, %q, %q", step.Name, step.Error, b.Error)
	}
}

// TestSources: what is recorded of where the content of a build comes from.
func TestSources(t *testing.T) {
	t.Parallel()
	for identifier, tt := range map[string]struct {
		attrs map[string]string
		want  history.Source
	}{
		"https://u:pw@h/f":   {nil, history.Source{Identifier: "https://xxxxx:xxxxx@h/f"}},
		"git://h/x.git#main": {map[string]string{pb.AttrFullRemoteURL: "https://u:pw@h/x.git"}, history.Source{Identifier: "git://h/x.git#main", URL: "https://xxxxx:xxxxx@h/x.git#main"}},
		"git://h/y.git":      {map[string]string{pb.AttrFullRemoteURL: "https://h/y.git"}, history.Source{Identifier: "git://h/y.git", URL: "https://h/y.git"}},
		"local://context":    {map[string]string{pb.AttrExcludePatterns: `["a","!b"]`}, history.Source{Identifier: "local://context", Excludes: []string{"a", "!b"}}},
		"local://damaged":    {map[string]string{pb.AttrExcludePatterns: `{`}, history.Source{Identifier: "local://damaged"}},
	} {
		s := &history.Step{}
		describeSource(s, &pb.SourceOp{Identifier: identifier, Attrs: tt.attrs})
		if fmt.Sprintf("%+v", *s.Source) != fmt.Sprintf("%+v", tt.want) {
			t.Errorf("%s: %+v, want %+v", identifier, *s.Source, tt.want)
		}
	}
	s := &history.Step{}
	if describeSource(s, nil); s.Source != nil {
		t.Errorf("a step that is no source: %+v", s.Source)
	}
}

// TestLayers: the layer that a step added, and its size, are recorded for a step that ran and changed something.
func TestLayers(t *testing.T) {
	t.Parallel()
	r := start(t, newStore(t), Options{LayerSize: func(d digest.Digest) (int64, error) {
		if d == "sha256:unknown" {
			return 0, errors.New("no such layer")
		}
		return int64(len(d)), nil
	}})
	now := time.Now()
	base := []*solver.Result{{Chain: buildcache.NewChain(buildcache.Link{DiffID: "sha256:base"})}}
	on := func(ids ...digest.Digest) []*solver.Result {
		links := []buildcache.Link{{DiffID: "sha256:base"}}
		for _, id := range ids {
			links = append(links, buildcache.Link{DiffID: id})
		}
		return []*solver.Result{{Chain: buildcache.NewChain(links...)}}
	}
	from := &solver.Vertex{Digest: "sha256:from", Name: "FROM x", Op: &pb.Op{}}
	r.Events(&solver.Status{Vertexes: []*client.Vertex{{Digest: from.Digest, Name: from.Name}}})
	r.Solved(from, nil, base)
	for name, tt := range map[string]struct {
		started *time.Time
		made    []*solver.Result
		layer   digest.Digest
	}{
		"ran": {&now, on("sha256:one"), "sha256:one"}, "two layers": {&now, on("sha256:one", "sha256:two2"), "sha256:two2"}, "changed nothing": {&now, base, ""},
		"cached": {nil, on("sha256:one"), ""}, "not in the store": {&now, on("sha256:unknown"), ""}, "empty": {&now, []*solver.Result{{}}, ""}, "no result": {&now, nil, ""},
	} {
		v := &solver.Vertex{Digest: digest.FromString(name), Name: name, Inputs: []solver.Edge{{Vertex: from}}, Op: &pb.Op{}}
		r.Events(&solver.Status{Vertexes: []*client.Vertex{{Digest: v.Digest, Name: name, Inputs: []digest.Digest{from.Digest}, Started: tt.started}}})
		var k buildcache.Key
		k.Add("operation", "exec", name)
		r.Solved(v, &k, tt.made)
		s := r.Build().Step(v.Digest)
		if s.Layer != tt.layer || s.Size != int64(len(tt.layer)) || s.Key != k.Digest() {
			t.Errorf("%s: %q of %d bytes", name, s.Layer, s.Size)
		}
	}
}

// TestFilesThatChange: a list of files that is no longer what the key was made of explains nothing, and is not kept.
func TestFilesThatChange(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := start(t, s, Options{})
	files := view.Files(map[string][]byte{"a": []byte("one")})
	listed := func(sum string, list func(context.Context) (*view.Listing, error)) buildcache.Key {
		return buildcache.Key{
			Ingredients: []buildcache.Ingredient{{Kind: buildcache.KindSource, Name: "/a", Value: sum}}, Origins: []buildcache.Origin{{Input: 0, List: list}},
		}
	}
	sum, _, err := view.Select(t.Context(), files, "/a", view.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	read := func(ctx context.Context) (*view.Listing, error) {
		return view.List(ctx, files, "/a", view.CopyOptions{})
	}
	other := digest.FromString("other").String()
	for name, k := range map[string]buildcache.Key{
		"changed": listed(other, read), "gone": listed(other, func(context.Context) (*view.Listing, error) { return nil, os.ErrNotExist }), "as it was": listed(sum, read),
	} {
		r.Found(t.Context(), nil, k)
		if want := name == "as it was"; history.Open(s).HasFiles(digest.Digest(k.Ingredients[0].Value)) != want {
			t.Errorf("%s: kept is %t", name, !want)
		}
	}
	if r.err != nil {
		t.Errorf("%v", r.err)
	}
}

// TestUnknownSteps: what the solver says of a step that was not announced is no fault.
func TestUnknownSteps(t *testing.T) {
	t.Parallel()
	r := start(t, newStore(t), Options{})
	v, k := copyStep(t, "one")
	if notes := r.Runs(t.Context(), v, k, solver.Miss{}); notes != nil {
		t.Errorf("%q", notes)
	}
	r.Solved(v, &k, nil)
	r.Blocked(v)
	r.Image("x", "sha256:m", []byte("not JSON"))
	if len(r.Build().Steps) != 0 || len(r.bases) != 0 {
		t.Errorf("%+v, %+v", r.Build().Steps, r.bases)
	}
	if err := r.End("", nil); err != nil {
		t.Error(err)
	}
}

// TestLargeDockerfile: the text of a Dockerfile beyond the bound is not kept; of several, as for the checks of the compiler, the first is.
func TestLargeDockerfile(t *testing.T) {
	t.Parallel()
	graph := func(texts ...string) *pb.Definition {
		src := &pb.Source{}
		for _, text := range texts {
			src.Infos = append(src.Infos, &pb.SourceInfo{Data: []byte(text)})
		}
		return &pb.Definition{Source: src}
	}
	large := strings.Repeat("#", history.MaxText+1)
	for want, texts := range map[string][]string{"": {large}, "FROM a": {"FROM a", "FROM b"}, "FROM b": {large, "FROM b"}} {
		r := start(t, newStore(t), Options{})
		r.Graph(graph(texts...))
		r.Graph(graph("FROM later"))
		if got := r.Build().Text; got != want && (want != "" || got != "FROM later") {
			t.Errorf("%d texts: %q, want %q", len(texts), got, want)
		}
	}
}
