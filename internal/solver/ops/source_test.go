package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// imageOf is an image of a result's layers.
func imageOf(ids []digest.Digest) *image.Image {
	img := &image.Image{}
	img.Config.RootFS.DiffIDs = ids
	return img
}

func TestImages(t *testing.T) {
	t.Parallel()
	first := newRig(t, nil)
	made := first.mustSolve(t, file("a").File(llb.Mkfile("/b", 0o600, nil)))
	stored, pushed := digest.FromString("index"), digest.FromString("pushed")
	r := rigOn(t, first.store, nil, func(o *Options) {
		o.Image = func(_ context.Context, ref string) (*image.Image, error) {
			img := imageOf(made.Chain.DiffIDs())
			switch ref {
			case "docker.io/library/x:1", "docker.io/library/x:1@" + stored.String():
				img.Root.Digest = stored
			case "docker.io/library/x:1@" + pushed.String():
				img.Root.Digest = pushed
			default:
				return nil, errors.New("no image " + ref)
			}
			return img, nil
		}
		o.Published = func(_ context.Context, ref string) (digest.Digest, error) {
			if ref != "docker.io/library/x:1" {
				return "", errors.New("no registry has " + ref)
			}
			return pushed, nil
		}
		o.Layout = func(_ context.Context, _, _ string, d digest.Digest, p *ocispec.Platform) (*image.Image, error) {
			if d != digest.FromString("root") || p.Architecture != "amd64" {
				return nil, errors.New("no layout " + d.String())
			}
			return imageOf(made.Chain.DiffIDs()[:1]), nil
		}
	})
	want := map[string]string{"a": "f 600 0:0 a", "b": "f 600 0:0 "}
	res := r.mustSolve(t, llb.Image("x:1"))
	if diff := cmp.Diff(want, r.list(t, res)); diff != "" {
		t.Error(diff)
	}
	for _, l := range res.Chain.Links() {
		if !l.Created.IsZero() || l.Description != "" {
			t.Errorf("a layer of an image has a history of its own: %+v", l)
		}
	}
	res = r.mustSolve(t, llb.OCILayout("x@"+digest.FromString("root").String()))
	if diff := cmp.Diff(map[string]string{"a": "f 600 0:0 a"}, r.list(t, res)); diff != "" {
		t.Error(diff)
	}
	r.mustSolve(t, llb.Image("x:1", llb.WithImageChecksum(stored)))
	r.mustSolve(t, llb.Image("x:1", llb.WithImageChecksum(pushed)))
	res = r.mustSolve(t, llb.Image("x:1", llb.WithLayerLimit(1)))
	if diff := cmp.Diff(map[string]string{"a": "f 600 0:0 a"}, r.list(t, res)); diff != "" {
		t.Error(diff)
	}
	other := digest.FromString("y")
	for want, st := range map[string]llb.State{
		fmt.Sprintf("image digest %s for docker.io/library/x:1 does not match expected checksum %s",
			pushed, other): llb.Image("x:1", llb.WithImageChecksum(other)),
		fmt.Sprintf("image digest %s for docker.io/library/x:1@%[1]s does not match expected checksum %s",
			stored, other): llb.Image("x:1@"+stored.String(), llb.WithImageChecksum(other)),
		"invalid layer limit 0: the image has 2":       llb.Image("x:1", llb.WithLayerLimit(0)),
		"invalid layer limit 3: the image has 2":       llb.Image("x:1", llb.WithLayerLimit(3)),
		"no image docker.io/library/y:latest":          llb.Image("y"),
		"no layout " + digest.FromString("y").String(): llb.OCILayout("x@" + digest.FromString("y").String()),
	} {
		if _, err := r.solve(t, st); text(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestImageNames: remote caches know an image by its index, its manifest and its layers, at a registry and in a layout.
func TestImageNames(t *testing.T) {
	t.Parallel()
	root, target := digest.FromString("index"), digest.FromString("manifest")
	img := imageOf([]digest.Digest{digest.FromString("layer")})
	img.Target.Digest = target
	op := func(identifier string) *pb.Op {
		return &pb.Op{Platform: &pb.Platform{OS: "linux", Architecture: "amd64"}, Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: identifier}}}
	}
	w := New(Options{
		Image: func(context.Context, string) (*image.Image, error) {
			found := *img
			found.Root.Digest = root
			return &found, nil
		},
		Layout: func(context.Context, string, string, digest.Digest, *ocispec.Platform) (*image.Image, error) {
			return img, nil
		},
	})
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	want := []string{
		digest.FromString(`{"Digest":"` + root.String() + `","OS":"linux","Arch":"amd64"}`).String(),
		digest.FromString(`{"Digest":"` + target.String() + `","OS":"linux","Arch":"amd64"}`).String(),
		digest.FromString("layer").String(),
	}
	for _, scheme := range []string{"docker-image", "oci-layout"} {
		o, err := newSourceOp(w, &solver.Task{Vertex: &solver.Vertex{Op: op(scheme + "://x@" + root.String())}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := o.(solver.Source).Names()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", scheme, err, diff)
		}
	}
}

// TestLocalSources: the attributes of LLB select files.
func TestLocalSources(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		option llb.LocalOption
		want   view.DirOptions
		err    string
	}{
		"all":     {option: llb.IncludePatterns(nil)},
		"include": {option: llb.IncludePatterns([]string{"a", "b/*"}), want: view.DirOptions{Include: []string{"a", "b/*"}}},
		"exclude": {option: llb.ExcludePatterns([]string{"c"}), want: view.DirOptions{Exclude: []string{"c"}}},
		"follow":  {option: llb.FollowPaths([]string{"d"}), want: view.DirOptions{Follow: []string{"d"}}},
	} {
		var got view.DirOptions
		r := rigOn(t, newStore(t), nil, func(o *Options) {
			o.Locals = map[string]Local{"context": func(opt view.DirOptions) (view.View, error) {
				got = opt
				return view.Files(map[string][]byte{"f": nil}), nil
			}}
		})
		res := r.mustSolve(t, llb.Local("context", c.option))
		if res.Local == nil || res.Chain.Len() != 0 {
			t.Errorf("%s: %+v", name, res)
		}
		if !slices.Equal(got.Include, c.want.Include) || !slices.Equal(got.Exclude, c.want.Exclude) || !slices.Equal(got.Follow, c.want.Follow) || !got.Anonymous {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestInvalidSources(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for want, st := range map[string]llb.State{
		"no local source is called \"x\"": llb.Local("x"),
		"source \"x\" is not valid":       llb.NewState(llb.NewSource("x", nil, llb.Constraints{}).Output()),
		"local source context: attribute local.includepattern: unexpected end of JSON input": llb.NewState(
			llb.NewSource("local://context", map[string]string{"local.includepattern": "["}, llb.Constraints{}).Output()),
		"ftp sources are not supported: ftp://host/x": llb.NewState(llb.NewSource("ftp://host/x", nil, llb.Constraints{}).Output()),
	} {
		if _, err := r.solve(t, st); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestRootDownloads: a file is a layer, known by its content; the server is asked in every build.
func TestRootDownloads(t *testing.T) {
	t.Parallel()
	content := "one"
	var requests int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		_, _ = w.Write([]byte(content))
	}))
	t.Cleanup(server.Close)
	first := newRig(t, nil)
	st := llb.HTTP(server.URL+"/f", llb.Chmod(0o600))
	one := first.mustSolve(t, st)
	if diff := cmp.Diff(map[string]string{"f": "f 600 0:0 one"}, first.list(t, one)); diff != "" {
		t.Error(diff)
	}
	def, err := st.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	pin, ok := first.worker.Pin(digest.FromBytes(def.Def[0]))
	if !ok || pin.Digest != digest.FromString("one") {
		t.Errorf("pin %+v, %t", pin, ok)
	}
	if _, ok := first.worker.Pin("sha256:none"); ok {
		t.Error("another operation has a pin")
	}
	asked := requests
	again := rigOn(t, first.store, nil, nil).mustSolve(t, st)
	if again.Chain.ID() != one.Chain.ID() || requests == asked {
		t.Errorf("the next build has %s, not %s, after %d requests", again.Chain.ID(), one.Chain.ID(), requests-asked)
	}
	content = "two"
	r := rigOn(t, first.store, nil, nil)
	if diff := cmp.Diff(map[string]string{"f": "f 600 0:0 two"}, r.list(t, r.mustSolve(t, st))); diff != "" {
		t.Error(diff)
	}
}
