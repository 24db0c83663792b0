package registrycmd

import (
	"net/http"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestPush: the lines are docker's; what arrived can be pulled.
func TestPush(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	img := f.Tag(f.Image(nil, map[string]string{"a": "b"}), f.reg.Name("app:1"), f.reg.Name("app:2"))
	layer := img.Chain()[0].Encoded()[:12]
	const refers = "The push refers to repository [REG/app]\n"
	got := f.run(NewPushCommand, "REG/app:1")
	digest, size, _ := strings.Cut(strings.TrimPrefix(got.out, "1: digest: "), " size: ")
	if got.err != "" || digest == got.out || size == "" || got.stderr != sorted(refers, layer+": Preparing\n", layer+": Pushed\n") {
		t.Fatalf("%+v", got)
	}
	f.test(t, NewPushCommand, "REG/app:1", outcome{
		out: got.out, stderr: sorted(refers, layer+": Preparing\n", layer+": Layer already exists\n"),
	})
	f.test(t, NewPushCommand, "-q REG/app:2", outcome{out: "REG/app:2\n"})
	f.test(t, NewPushCommand, "-q -a REG/app", outcome{out: "REG/app:1\nREG/app:2\n"})
	if m := f.reg.Manifest("app", "2"); registrytest.Digest(m.Data) != digest {
		t.Errorf("app:2 is %s, want %s", registrytest.Digest(m.Data), digest)
	}
	other := &fixture{commandtest.New(t), f.reg}
	other.test(t, NewPullCommand, "-q REG/app:1", outcome{out: "REG/app:1\n"})
	if pulled, err := other.Images.Find(t.Context(), f.reg.Name("app:1")); err != nil || pulled.ID != img.ID {
		t.Errorf("pulled %+v, %v", pulled, err)
	}
}

// TestPushMounts: a layer that another repository of the registry has is not sent.
func TestPushMounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.putImage(t, "base", "1", "x")
	f.test(t, NewPullCommand, "-q REG/base:1", outcome{out: "REG/base:1\n"})
	img, err := f.Images.Find(t.Context(), f.reg.Name("base:1"))
	if err != nil {
		t.Fatal(err)
	}
	f.Tag(img, f.reg.Name("app:1"))
	layer := img.Chain()[0].Encoded()[:12]
	if got := f.run(NewPushCommand, "REG/app:1"); !strings.Contains(got.stderr, layer+": Mounted from base\n") || got.err != "" {
		t.Errorf("%+v", got)
	}
}

func TestPushCompression(t *testing.T) {
	t.Parallel()
	for args, mediaType := range map[string]string{
		"": registrytest.TypeLayer + "+gzip",
		"--compression gzip --compression-level 9":  registrytest.TypeLayer + "+gzip",
		"--compression zstd --compression-level 22": registrytest.TypeLayer + "+zstd",
		"--compression none":                        registrytest.TypeLayer,
	} {
		f := newFixture(t)
		f.Tag(f.Image(nil, map[string]string{"a": "b"}), f.reg.Name("app:1"))
		got := f.run(NewPushCommand, args+" -q REG/app:1")
		if text := string(f.reg.Manifest("app", "1").Data); got.err != "" || !strings.Contains(text, `"`+mediaType+`"`) {
			t.Errorf("%s: %+v, %s", args, got, text)
		}
	}
}

func TestPushFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Tag(f.Image(nil, map[string]string{"a": "b"}), f.reg.Name("app:1"))
	f.fails(t, NewPushCommand, map[string]string{
		"A":                                badName,
		"REG/app":                          "An image does not exist locally with the tag: REG/app",
		"REG/nosuch":                       "An image does not exist locally with the tag: REG/nosuch",
		"-a REG/nosuch":                    "An image does not exist locally with the tag: REG/nosuch",
		"-a REG/app:1":                     "tag can't be used with --all-tags/-a",
		"--compression x REG/app:1":        `unknown compression "x": use gzip, zstd, estargz or uncompressed (none)`,
		"--compression-level 10 REG/app:1": "compression level 10: gzip has 1 to 9",
		"--compression zstd --compression-level 23 REG/app:1": "compression level 23: zstd has 1 to 22",
		"--compression estargz REG/app:1":                     "estargz makes other layers, and with them another image: build with --output type=registry,compression=estargz",
		"--platform a/b/c/d REG/app:1":                        `invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`,
		"REG/app@sha256:" + strings.Repeat("0", 64):           "cannot push a digest reference",
	})
	f.reg.Misbehave(registrytest.On(http.MethodPut, registrytest.Manifest, 1, 0, registrytest.Status(http.StatusForbidden)))
	if got := f.run(NewPushCommand, "REG/app:1"); !strings.HasPrefix(got.err, "access to REG/app:1 denied: ") || !strings.Contains(got.err, "mica login REG") || got.out != "" {
		t.Errorf("%+v", got)
	}
}

// TestPushPartOfAnIndex: of an image that was pulled for one platform, only that is pushed, and mica says so.
func TestPushPartOfAnIndex(t *testing.T) {
	t.Parallel()
	f, to := newFixture(t), registrytest.New(t)
	index, ours, _ := f.reg.PutPlatforms("app", "1")
	f.test(t, NewPullCommand, "-q REG/app:1", outcome{out: "REG/app:1\n"})
	img, err := f.Images.Root(t.Context(), f.reg.Name("app:1"))
	if err == nil {
		_, err = f.Images.Keep(t.Context(), img, to.Name("app:1"))
	}
	if err != nil {
		t.Fatal(err)
	}
	got := f.run(NewPushCommand, to.Name("app:1"))
	if want := "Not all of the platforms of " + index.Digest + " are in the store: only those that are were pushed\n"; !strings.Contains(got.stderr, want) || got.err != "" {
		t.Errorf("%+v, want %q", got, want)
	}
	if pushed := registrytest.Digest(to.Manifest("app", "1").Data); pushed != ours.Digest {
		t.Errorf("pushed %s, want %s", pushed, ours.Digest)
	}
}
