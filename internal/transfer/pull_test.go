package transfer

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// other is the platform of registrytest.OtherArch.
func other() ocispec.Platform {
	return ocispec.Platform{OS: "linux", Architecture: registrytest.OtherArch()}
}

func TestPullNamesAndStatus(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	d := m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("old")))
	c := newClient(t)
	if got := c.pull(m.Name("app:1")); !got.Fresh || got.Root.Digest.String() != d.Digest {
		t.Errorf("first pull: %+v", got)
	}
	if got := c.pull(m.Name("app:1")); got.Fresh {
		t.Errorf("second pull: %+v", got)
	}
	if got := c.pull(m.Name("app@" + d.Digest)); got.Root.Digest.String() != d.Digest {
		t.Errorf("pull by digest: %+v", got)
	}
	// The tag moves: the old image keeps the name by its digest.
	m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("new")))
	if got := c.pull(m.Name("app:1")); !got.Fresh {
		t.Errorf("pull of a tag that moved: %+v", got)
	}
	if got := c.content(m.Name("app:1"), "made"); got != "new" {
		t.Errorf("the tag has %q", got)
	}
	if got := c.content(m.Name("app@"+d.Digest), "made"); got != "old" {
		t.Errorf("the old digest has %q", got)
	}
	m.Misbehave(registrytest.Always(registrytest.Hangup))
	c.refusesPull(`EOF|reset|reached`, m.Name("app:1"))
	if got := c.content(m.Name("app:1"), "made"); got != "new" {
		t.Errorf("after a pull that failed the tag has %q", got)
	}
}

func TestPullMissing(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("x")))
	c := newClient(t)
	for _, name := range []string{"app:2", "app@" + digest.FromString("no").String(), "nothing"} {
		_, err := c.tryPull(m.Name(name), PullOptions{})
		var missing *registry.NotFoundError
		if !errors.As(err, &missing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.refusesPull(`cannot be reached|refused`, "127.0.0.1:1/app")
}

func TestPullSharedLayers(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	base := registrytest.Layer(t, "base", registrytest.Noise(100_000))
	m.PutImage("base", "1", runtime.GOARCH, nil, base)
	m.PutImage("app", "1", runtime.GOARCH, nil, base, base, registrytest.Layer(t, "made", []byte("app")))
	c := newClient(t)
	c.pull(m.Name("base:1"))
	m.Behave()
	states := map[digest.Digest]State{}
	var mu sync.Mutex
	if _, err := c.tryPull(m.Name("app:1"), PullOptions{Progress: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		states[e.Layer] = e.State
	}}); err != nil {
		t.Fatal(err)
	}
	if got := states[digest.FromBytes(registrytest.Gzip(t, base))]; got != Exists {
		t.Errorf("the shared layer is in state %d", got)
	}
	if got := m.SeenBy("GET", registrytest.Blob); len(got) != 2 { // the config and the other layer
		t.Errorf("requested %v", got)
	}
}

func TestPullPlatforms(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	index, ours, theirs := m.PutPlatforms("app", "1")
	for name, test := range map[string]struct {
		ref       string
		platforms []string
		root      string
		manifests int
		made      ocispec.Platform
	}{
		"default":       {"app:1", nil, index.Digest, 2, ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}},
		"other":         {"app:1", []string{"linux/" + other().Architecture}, index.Digest, 2, other()},
		"twice":         {"app:1", []string{"linux/" + other().Architecture, "linux/" + other().Architecture}, index.Digest, 2, other()},
		"both":          {"app:1", []string{"linux/" + runtime.GOARCH, "linux/" + other().Architecture}, index.Digest, 3, other()},
		"all":           {"app:1", []string{"all"}, index.Digest, 3, other()},
		"one by digest": {"app@" + theirs.Digest, nil, theirs.Digest, 1, other()},
		"ours":          {"app@" + ours.Digest, nil, ours.Digest, 1, ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			m.Behave()
			if got := c.pull(m.Name(test.ref), test.platforms...).Root.Digest.String(); got != test.root {
				t.Errorf("root %s, want %s", got, test.root)
			}
			if got := c.content(m.Name(test.ref), "made", test.made); got != test.made.Architecture {
				t.Errorf("the image is for %s, want %s", got, test.made.Architecture)
			}
			if n := len(m.SeenBy("GET", registrytest.Manifest)); n != test.manifests {
				t.Errorf("%d manifests requested, want %d", n, test.manifests)
			}
		})
	}
	c := newClient(t)
	c.refuses(`no matching manifest for linux/s390x`, func() error {
		_, err := c.tryPull(m.Name("app:1"), PullOptions{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}})
		return err
	})
}

func TestPullNestedIndex(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	root, _, _ := m.PutNested("app", "1")
	c := newClient(t)
	if got := c.pull(m.Name("app:1")).Root.Digest.String(); got != root.Digest {
		t.Errorf("pulled %s", got)
	}
	if n := len(m.SeenBy("GET", registrytest.Blob)); n != 3 {
		t.Errorf("%d blobs requested, want a config and two layers", n)
	}
	if got := c.content(m.Name("app:1"), "made"); got != runtime.GOARCH {
		t.Errorf("the image is for %s", got)
	}
	whole := newClient(t)
	whole.pull(m.Name("app:1"), "all")
	if got := whole.content(m.Name("app:1"), "made", other()); got != registrytest.OtherArch() {
		t.Errorf("the other image is for %s", got)
	}
	// To the registry that it came from all of it goes, to another what is in the store.
	if got := c.push(m.Name("app:1"), PushOptions{}).Root.Digest.String(); got != root.Digest {
		t.Errorf("pulled %s, pushed %s", root.Digest, got)
	}
	elsewhere := registrytest.New(t)
	c.tag(m.Name("app:1"), elsewhere.Name("app:1"))
	if got := c.push(elsewhere.Name("app:1"), PushOptions{}); got.Reduced.Digest.String() != root.Digest {
		t.Errorf("pushed %+v", got)
	}
	c.validate(elsewhere.Name("app:1"))
	again := newClient(t)
	again.pull(elsewhere.Name("app:1"))
	if got := again.content(elsewhere.Name("app:1"), "made"); got != runtime.GOARCH {
		t.Errorf("pushed elsewhere, it is for %s", got)
	}
}

// TestPullAttestations: with all platforms the attestations of an index are pulled, too, and pushed.
func TestPullAttestations(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	image := m.PutImage("app", "", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("x")))
	statement := m.PutSignature("app", "", nil, "a statement")
	statement.Platform = map[string]string{"architecture": "unknown", "os": "unknown"}
	statement.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.Digest}
	index := m.PutIndex("app", "1", image, statement)
	c := newClient(t)
	c.pull(m.Name("app:1"), "all")
	if !oci.IsAttestation(ocispec.Descriptor{Annotations: statement.Annotations}) {
		t.Fatal("not an attestation")
	}
	if _, err := c.Store.StatBlob(digest.FromString("a statement")); err != nil {
		t.Errorf("the statement is not in the store: %v", err)
	}
	elsewhere := registrytest.New(t)
	c.tag(m.Name("app:1"), elsewhere.Name("app:1"))
	if got := c.push(elsewhere.Name("app:1"), PushOptions{}).Root.Digest.String(); got != index.Digest {
		t.Errorf("pulled %s, pushed %s", index.Digest, got)
	}
	c.validate(elsewhere.Name("app:1"))
	c.refusesPull(`not an image: the manifest is a .*use mica copy`, m.Name("app@"+statement.Digest))
}

const bigLayer = 3 << 20

// putBig adds the image app:1 with one large layer, and returns the layer's blob.
func putBig(m *registrytest.Server) registrytest.Descriptor {
	m.T.Helper()
	var blob registrytest.Descriptor
	m.PutImage("app", "1", runtime.GOARCH, func(c *registrytest.Contents) { blob = c.Layers[0] }, registrytest.Layer(m.T, "made", registrytest.Noise(bigLayer)))
	return blob
}

// breakOff cuts the first response with a blob after 2 MiB, and the others at once.
func breakOff(m *registrytest.Server, blob registrytest.Descriptor) {
	n := 0
	m.Misbehave(func(r registrytest.Request) registrytest.Fault {
		if r.Method != http.MethodGet || r.Ref != blob.Digest {
			return nil
		}
		if n++; n == 1 {
			return registrytest.Cut(2 << 20)
		}
		return registrytest.Cut(0)
	})
}

// partials are the files of the store with the beginnings of blobs.
func (c *client) partials() []string {
	list, err := filepath.Glob(c.Store.Path("tmp", "partial-*"))
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

func TestPullResumes(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	blob := putBig(m)
	c := newClient(t)
	breakOff(m, blob)
	c.refusesPull(`layer`, m.Name("app:1"))
	m.Behave()
	c.pull(m.Name("app:1"))
	requests := 0
	for _, r := range m.SeenBy("GET", registrytest.Blob) {
		if r.Ref != blob.Digest {
			continue
		}
		requests++
		var from int64
		if _, err := fmt.Sscanf(r.Range, "bytes=%d-", &from); err != nil || from < 1<<20 || r.Status != http.StatusPartialContent {
			t.Errorf("requests %q, and gets %d", r.Range, r.Status)
		}
	}
	if requests == 0 {
		t.Error("the rest is not requested")
	}
	if c.content(m.Name("app:1"), "made") != string(registrytest.Noise(bigLayer)) {
		t.Error("the layer has another content")
	}
	if left := c.partials(); len(left) != 0 {
		t.Errorf("left in the store: %v", left)
	}
}

func TestPullResumesWithoutRanges(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	blob := putBig(m)
	c := newClient(t)
	breakOff(m, blob)
	c.refusesPull(`layer`, m.Name("app:1"))
	m.Misbehave(registrytest.Always(registrytest.NoRanges))
	c.pull(m.Name("app:1"))
	if c.content(m.Name("app:1"), "made") != string(registrytest.Noise(bigLayer)) {
		t.Error("the layer has another content")
	}
}

// TestPullSpoiltRest: what the store has of an earlier pull is verified.
func TestPullSpoiltRest(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(path string) error{
		"changed": func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[1000] ^= 1
			return os.WriteFile(path, data, 0o600)
		},
		"too long": func(path string) error { return os.Truncate(path, 2*bigLayer) },
		"empty":    func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			blob := putBig(m)
			c := newClient(t)
			breakOff(m, blob)
			c.refusesPull(`layer`, m.Name("app:1"))
			list := c.partials()
			if len(list) == 0 {
				t.Fatal("nothing is kept")
			}
			for _, path := range list {
				if strings.HasSuffix(path, ".lock") {
					continue
				}
				if err := spoil(path); err != nil {
					t.Fatal(err)
				}
			}
			m.Behave()
			if _, err := c.tryPull(m.Name("app:1"), PullOptions{}); err != nil { // once may fail, but not for ever
				c.pull(m.Name("app:1"))
			}
			if c.content(m.Name("app:1"), "made") != string(registrytest.Noise(bigLayer)) {
				t.Error("the layer has another content")
			}
		})
	}
}

// TestPullRedirects: blobs may come from another host, which must not see the registry's credentials.
func TestPullRedirects(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", registrytest.Noise(300_000)))
	storage := registrytest.NewProxy(t, m.Memory)
	m.Misbehave(func(r registrytest.Request) registrytest.Fault {
		if r.Authorized && r.Kind == registrytest.Blob && r.Method == http.MethodGet {
			return registrytest.Redirect(storage.URL)
		}
		return registrytest.Password("alice", "secret")(r)
	})
	c := newClient(t)
	c.refusesPull(`denied`, m.Name("app:1"))
	c.login(m.Addr, "alice", "secret")
	c.pull(m.Name("app:1"))
	if len(storage.Seen(registrytest.Blob)) == 0 {
		t.Fatal("the other host served nothing")
	}
	for _, r := range storage.Seen() {
		if r.Authorized {
			t.Errorf("the other host saw credentials: %+v", r)
		}
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	index, ours, theirs := m.PutPlatforms("app", "1")
	c := newClient(t)
	got, err := Inspect(t.Context(), c.client, parseName(t, m.Name("app:1")))
	if err != nil {
		t.Fatal(err)
	}
	if got.Root.Digest.String() != index.Digest || registrytest.Digest(got.Raw) != index.Digest {
		t.Errorf("root %v", got.Root)
	}
	want := other()
	for platform, digest := range map[*ocispec.Platform]string{nil: ours.Digest, &want: theirs.Digest} {
		img, err := got.Image(t.Context(), platform)
		if err != nil || img.Target.Digest.String() != digest || len(img.Config.RootFS.DiffIDs) != 2 {
			t.Errorf("image for %v: %+v, %v", platform, img, err)
		}
	}
	images, err := got.Images(t.Context())
	if err != nil || len(images) != 2 {
		t.Errorf("%d images, %v", len(images), err)
	}
	for _, r := range m.SeenBy("GET", registrytest.Blob) {
		if !strings.HasPrefix(string(m.Blob("app", r.Ref)), "{") {
			t.Errorf("a layer is requested: %+v", r)
		}
	}
	var missing *registry.NotFoundError
	if _, err := Inspect(t.Context(), c.client, parseName(t, m.Name("app:2"))); !errors.As(err, &missing) {
		t.Errorf("of a tag that is missing: %v", err)
	}
}
