package transfer

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

const dockerForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

// TestHostileContent: what no honest registry holds is refused with one line.
func TestHostileContent(t *testing.T) {
	good := registrytest.Layer(t, "made", []byte("good"))
	for name, c := range map[string]struct {
		craft func(m *registrytest.Server)
		says  string
	}{
		"unknown manifest type": {func(m *registrytest.Server) {
			m.PutDocument("app", "1", "application/vnd.example.thing+json", map[string]int{"schemaVersion": 2})
		}, `application/vnd.example.thing`},
		"no manifest type": {func(m *registrytest.Server) {
			m.PutDocument("app", "1", "application/octet-stream", map[string]int{"schemaVersion": 2})
		}, `type`},
		"schema 1": {func(m *registrytest.Server) {
			m.PutDocument("app", "1", "application/vnd.docker.distribution.manifest.v1+prettyjws", map[string]int{"schemaVersion": 1})
		}, `schema`},
		"manifest is no JSON": {func(m *registrytest.Server) { m.PutRaw("app", "1", registrytest.TypeManifest, "{{{") }, `manifest`},
		"manifest is null":    {func(m *registrytest.Server) { m.PutRaw("app", "1", registrytest.TypeManifest, "null") }, `manifest|config|type|image`},
		"manifest is deep": {func(m *registrytest.Server) {
			m.PutRaw("app", "1", registrytest.TypeManifest, strings.Repeat("[", 100_000))
		}, `manifest`},
		"index is null": {func(m *registrytest.Server) { m.PutRaw("app", "1", registrytest.TypeIndex, "null") }, `manifest`},
		"manifest says it is an index": {func(m *registrytest.Server) {
			m.PutRaw("app", "1", registrytest.TypeManifest, `{"schemaVersion":2,"mediaType":"`+registrytest.TypeIndex+`","manifests":[]}`)
		}, `type|manifest`},
		"unknown layer type":        {edit(good, func(c *registrytest.Contents) { c.Layers[0].MediaType = "application/vnd.example.layer" }), `application/vnd.example.layer`},
		"layer of another size":     {edit(good, func(c *registrytest.Contents) { c.Layers[0].Size++ }), `bytes|size|digest|too`},
		"layer of negative size":    {edit(good, func(c *registrytest.Contents) { c.Layers[0].Size = -1 }), `size|bytes|manifest`},
		"layer of no digest":        {edit(good, func(c *registrytest.Contents) { c.Layers[0].Digest = "" }), `digest`},
		"layer's digest is a path":  {edit(good, func(c *registrytest.Contents) { c.Layers[0].Digest = "sha256:../../../../etc/passwd" }), `digest`},
		"layer's digest is unknown": {edit(good, func(c *registrytest.Contents) { c.Layers[0].Digest = "md5:d41d8cd98f00b204e9800998ecf8427e" }), `digest|algorithm`},
		"no layers":                 {edit(good, func(c *registrytest.Contents) { c.Layers = nil }), `layers`},
		"too many layers":           {edit(good, func(c *registrytest.Contents) { c.Layers = append(c.Layers, c.Layers[0]) }), `layers`},
		"no config":                 {edit(good, func(c *registrytest.Contents) { c.Config = nil }), `config|image|type`},
		"config of another type":    {edit(good, func(c *registrytest.Contents) { c.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }), `helm|image`},
		"config is huge":            {edit(good, func(c *registrytest.Contents) { c.Config.Size = 1 << 30 }), `config|size|bytes|large`},
		"layer is no tar": {func(m *registrytest.Server) {
			m.PutImage("app", "1", runtime.GOARCH, nil, []byte(strings.Repeat("no tar ", 300)))
		}, `tar|archive`},
		"layer is no gzip":                 {notZipped(good), `gzip|compress|header|content|tar|damaged`},
		"layer is another":                 {otherLayer(good), `damaged|content|digest|DiffID`},
		"config is no JSON":                {badConfig(good, "{"), `config|JSON`},
		"config's diff IDs are paths":      {badConfig(good, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:../../../x"]}}`), `digest`},
		"index of itself":                  {selfIndex, `index|digest|mismatch`},
		"index in an index":                {nestedIndex, `index`},
		"index of nothing":                 {func(m *registrytest.Server) { m.PutIndex("app", "1") }, `manifest`},
		"index for others":                 {func(m *registrytest.Server) { m.PutIndex("app", "1", m.PutImage("app", "", "s390x", nil, good)) }, `no matching manifest for linux/` + runtime.GOARCH},
		"index's manifest is another":      {otherManifest(good), `digest|mismatch`},
		"index's manifest is not there":    {lostManifest(good), `not found|unknown`},
		"artifact":                         {func(m *registrytest.Server) { m.PutSignature("app", "1", nil, "x") }, `image`},
		"digest that answers with another": {otherDigest(good), `digest|mismatch`},
		"foreign layer, docker":            {foreignLayer(dockerForeign), `foreign`},
		"foreign layer, oci":               {foreignLayer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), `foreign`},
		"layer above the root": {func(m *registrytest.Server) {
			m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(m.T, "../../../tmp/mica-escaped", []byte("x")))
		}, `\.\.|path|name|root|escape`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			c.craft(m)
			m.PutImage("good", "1", runtime.GOARCH, nil, good)
			user := newClient(t)
			user.build("mine", "mine:1")
			user.refusesPull(c.says, m.Name("app:1"))
			if n := len(m.Seen()); n > 40 {
				t.Errorf("it asked %d times", n)
			}
			for _, r := range m.Seen(registrytest.Other) {
				t.Errorf("it went elsewhere: %+v", r)
			}
			m.Behave()
			user.pull(m.Name("good:1"))
			if got := user.content(m.Name("good:1"), "made"); got != "good" {
				t.Errorf("what came then is %q", got)
			}
		})
	}
}

func edit(l []byte, change func(*registrytest.Contents)) func(*registrytest.Server) {
	return func(m *registrytest.Server) { m.PutImage("app", "1", runtime.GOARCH, change, l) }
}

func notZipped(l []byte) func(*registrytest.Server) {
	return func(m *registrytest.Server) {
		m.PutImage("app", "1", runtime.GOARCH, func(c *registrytest.Contents) {
			c.Layers[0] = m.PutBlob("app", registrytest.TypeLayer+"+gzip", registrytest.Noise(5000))
		}, l)
	}
}

func otherLayer(l []byte) func(*registrytest.Server) {
	return func(m *registrytest.Server) {
		other := m.PutBlob("app", registrytest.TypeLayer+"+gzip", registrytest.Gzip(m.T, registrytest.Layer(m.T, "other", []byte("other"))))
		m.PutImage("app", "1", runtime.GOARCH, func(c *registrytest.Contents) { c.Layers[0] = other }, l)
	}
}

func badConfig(l []byte, text string) func(*registrytest.Server) {
	return func(m *registrytest.Server) {
		config := m.PutBlob("app", registrytest.TypeConfig, []byte(text))
		m.PutImage("app", "1", runtime.GOARCH, func(c *registrytest.Contents) { c.Config = &config }, l)
	}
}

// selfIndex: an index cannot have its own digest in it, but a registry can answer as if.
func selfIndex(m *registrytest.Server) {
	itself := registrytest.Digest([]byte("itself"))
	entry := registrytest.Descriptor{MediaType: registrytest.TypeIndex, Digest: itself, Size: 400, Platform: map[string]string{"architecture": runtime.GOARCH, "os": "linux"}}
	data := mustJSON(m.T, registrytest.Contents{SchemaVersion: 2, MediaType: registrytest.TypeIndex, Manifests: []registrytest.Descriptor{entry}})
	m.AddManifest("app", registrytest.Document{Type: registrytest.TypeIndex, Data: data}, "1", itself, registrytest.Digest(data))
}

// nestedIndex is fifty indexes deep.
func nestedIndex(m *registrytest.Server) {
	d := m.PutImage("app", "", runtime.GOARCH, nil, registrytest.Layer(m.T, "made", []byte("deep")))
	platform := d.Platform
	for i := range 50 {
		d = m.PutIndex("app", map[bool]string{true: "1"}[i == 49], d)
		d.Platform = platform
	}
}

func otherManifest(l []byte) func(*registrytest.Server) {
	return func(m *registrytest.Server) {
		d, other := m.PutImage("app", "", runtime.GOARCH, nil, l), m.PutImage("app", "", runtime.GOARCH, nil, registrytest.Layer(m.T, "other", []byte("other")))
		m.AddManifest("app", m.Manifest("app", other.Digest), d.Digest)
		m.PutIndex("app", "1", d)
	}
}

func lostManifest(l []byte) func(*registrytest.Server) {
	return func(m *registrytest.Server) {
		d := m.PutImage("elsewhere", "", runtime.GOARCH, nil, l)
		m.PutIndex("app", "1", d)
	}
}

// otherDigest: the tag answers with the digest of one image and the bytes of another.
func otherDigest(l []byte) func(*registrytest.Server) {
	return func(m *registrytest.Server) {
		m.PutImage("app", "1", runtime.GOARCH, nil, l)
		m.Misbehave(registrytest.On("GET", registrytest.Manifest, 1, 2, registrytest.Header("Docker-Content-Digest", registrytest.Digest([]byte("other")))))
	}
}

func foreignLayer(mediaType string) func(*registrytest.Server) {
	return func(m *registrytest.Server) {
		m.PutImage("app", "1", runtime.GOARCH, func(c *registrytest.Contents) {
			l := &c.Layers[0]
			l.MediaType, l.URLs = mediaType, []string{m.URL + "/elsewhere/layer"}
			m.DropBlob("app", l.Digest)
		}, registrytest.Layer(m.T, "made", []byte("foreign")))
	}
}

// TestForeignLayerAtTheRegistry: a layer that may come from elsewhere is taken where it is at the registry, too.
func TestForeignLayerAtTheRegistry(t *testing.T) {
	m := registrytest.New(t)
	m.PutImage("app", "1", runtime.GOARCH, func(c *registrytest.Contents) {
		c.MediaType = "application/vnd.docker.distribution.manifest.v2+json"
		c.Config.MediaType = "application/vnd.docker.container.image.v1+json"
		c.Layers[0].MediaType, c.Layers[0].URLs = dockerForeign, []string{m.URL + "/elsewhere/layer"}
	}, registrytest.Layer(t, "made", []byte("foreign")))
	c := newClient(t)
	c.pull(m.Name("app:1"))
	if got := c.content(m.Name("app:1"), "made"); got != "foreign" {
		t.Errorf("what came is %q", got)
	}
	for _, r := range m.Seen(registrytest.Other) {
		t.Errorf("it went elsewhere: %+v", r)
	}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
