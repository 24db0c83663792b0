//go:build e2e

package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

const dockerForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

// TestHostileContent: what no honest registry holds is refused with one line.
func TestHostileContent(t *testing.T) {
	good := layer(t, "made", []byte("good"))
	for name, c := range map[string]struct {
		craft func(m *memory)
		says  string
	}{
		"unknown manifest type": {func(m *memory) {
			m.document("app", "1", "application/vnd.example.thing+json", map[string]int{"schemaVersion": 2})
		}, `application/vnd.example.thing`},
		"no manifest type": {func(m *memory) {
			m.document("app", "1", "application/octet-stream", map[string]int{"schemaVersion": 2})
		}, `type`},
		"schema 1": {func(m *memory) {
			m.document("app", "1", "application/vnd.docker.distribution.manifest.v1+prettyjws", map[string]int{"schemaVersion": 1})
		}, `schema`},
		"manifest is no JSON": {func(m *memory) { m.raw("app", "1", rig.TypeManifest, "{{{") }, `manifest`},
		"manifest is null":    {func(m *memory) { m.raw("app", "1", rig.TypeManifest, "null") }, `manifest|config|type|image`},
		"manifest is deep":    {func(m *memory) { m.raw("app", "1", rig.TypeManifest, strings.Repeat("[", 100_000)) }, `manifest`},
		"index is null":       {func(m *memory) { m.raw("app", "1", rig.TypeIndex, "null") }, `manifest`},
		"manifest says it is an index": {func(m *memory) {
			m.raw("app", "1", rig.TypeManifest, `{"schemaVersion":2,"mediaType":"`+rig.TypeIndex+`","manifests":[]}`)
		}, `type|manifest`},
		"unknown layer type":               {edit(good, func(c *rig.Contents) { c.Layers[0].MediaType = "application/vnd.example.layer" }), `application/vnd.example.layer`},
		"layer of another size":            {edit(good, func(c *rig.Contents) { c.Layers[0].Size++ }), `bytes|size|digest|too`},
		"layer of negative size":           {edit(good, func(c *rig.Contents) { c.Layers[0].Size = -1 }), `size|bytes|manifest`},
		"layer of no digest":               {edit(good, func(c *rig.Contents) { c.Layers[0].Digest = "" }), `digest`},
		"layer's digest is a path":         {edit(good, func(c *rig.Contents) { c.Layers[0].Digest = "sha256:../../../../etc/passwd" }), `digest`},
		"layer's digest is unknown":        {edit(good, func(c *rig.Contents) { c.Layers[0].Digest = "md5:d41d8cd98f00b204e9800998ecf8427e" }), `digest|algorithm`},
		"no layers":                        {edit(good, func(c *rig.Contents) { c.Layers = nil }), `layers`},
		"too many layers":                  {edit(good, func(c *rig.Contents) { c.Layers = append(c.Layers, c.Layers[0]) }), `layers`},
		"no config":                        {edit(good, func(c *rig.Contents) { c.Config = nil }), `config|image|type`},
		"config of another type":           {edit(good, func(c *rig.Contents) { c.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }), `helm|image`},
		"config is huge":                   {edit(good, func(c *rig.Contents) { c.Config.Size = 1 << 30 }), `config|size|bytes|large`},
		"layer is no tar":                  {func(m *memory) { m.image("app", "1", here(), nil, []byte(strings.Repeat("no tar ", 300))) }, `tar|archive`},
		"layer is no gzip":                 {notZipped(good), `gzip|compress|header|content|tar|damaged`},
		"layer is another":                 {otherLayer(good), `damaged|content|digest|DiffID`},
		"config is no JSON":                {badConfig(good, "{"), `config|JSON`},
		"config's diff IDs are paths":      {badConfig(good, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:../../../x"]}}`), `digest`},
		"index of itself":                  {selfIndex, `index|digest|mismatch`},
		"index in an index":                {nestedIndex, `index`},
		"index of nothing":                 {func(m *memory) { m.index("app", "1") }, `manifest`},
		"index for others":                 {func(m *memory) { m.index("app", "1", m.image("app", "", "s390x", nil, good)) }, `no matching manifest for linux/` + here()},
		"index's manifest is another":      {otherManifest(good), `digest|mismatch`},
		"index's manifest is not there":    {lostManifest(good), `not found|unknown`},
		"artifact":                         {func(m *memory) { m.signature("app", "1", nil, "x") }, `image`},
		"digest that answers with another": {otherDigest(good), `digest|mismatch`},
		"foreign layer, docker":            {foreignLayer(dockerForeign), `foreign`},
		"foreign layer, oci":               {foreignLayer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), `foreign`},
		"layer above the root":             {func(m *memory) { m.image("app", "1", here(), nil, layer(t, "../../../tmp/mica-escaped", []byte("x"))) }, `\.\.|path|name|root|escape`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(t)
			c.craft(m)
			m.image("good", "1", here(), nil, good)
			user := newClient(t)
			user.build("mine", "mine:1")
			user.refuses(c.says, "pull", m.name("app:1"))
			if n := len(m.Seen()); n > 40 {
				t.Errorf("it asked %d times", n)
			}
			for _, r := range m.Seen(rig.Other) {
				t.Errorf("it went elsewhere: %+v", r)
			}
			m.Behave()
			user.Run("pull", "-q", m.name("good:1"))
			if got := user.content(m.name("good:1"), "made"); got != "good" {
				t.Errorf("what came then is %q", got)
			}
		})
	}
}

// raw adds a manifest of any bytes.
func (m *memory) raw(repo, tag, mediaType, text string) {
	data := []byte(text)
	m.AddManifest(repo, rig.Document{Type: mediaType, Data: data}, tag, rig.Digest(data))
}

func edit(l []byte, change func(*rig.Contents)) func(*memory) {
	return func(m *memory) { m.image("app", "1", here(), change, l) }
}

func notZipped(l []byte) func(*memory) {
	return func(m *memory) {
		m.image("app", "1", here(), func(c *rig.Contents) { c.Layers[0] = m.blob("app", rig.TypeLayer+"+gzip", noise(5000)) }, l)
	}
}

func otherLayer(l []byte) func(*memory) {
	return func(m *memory) {
		other := m.blob("app", rig.TypeLayer+"+gzip", zipped(m.t, layer(m.t, "other", []byte("other"))))
		m.image("app", "1", here(), func(c *rig.Contents) { c.Layers[0] = other }, l)
	}
}

func badConfig(l []byte, text string) func(*memory) {
	return func(m *memory) {
		config := m.blob("app", rig.TypeConfig, []byte(text))
		m.image("app", "1", here(), func(c *rig.Contents) { c.Config = &config }, l)
	}
}

// selfIndex: an index cannot have its own digest in it, but a registry can answer as if.
func selfIndex(m *memory) {
	itself := rig.Digest([]byte("itself"))
	entry := rig.Descriptor{MediaType: rig.TypeIndex, Digest: itself, Size: 400, Platform: map[string]string{"architecture": here(), "os": "linux"}}
	data := encode(m.t, rig.Contents{SchemaVersion: 2, MediaType: rig.TypeIndex, Manifests: []rig.Descriptor{entry}})
	m.AddManifest("app", rig.Document{Type: rig.TypeIndex, Data: data}, "1", itself, rig.Digest(data))
}

// nestedIndex is fifty indexes deep.
func nestedIndex(m *memory) {
	d := m.image("app", "", here(), nil, layer(m.t, "made", []byte("deep")))
	platform := d.Platform
	for i := range 50 {
		d = m.index("app", map[bool]string{true: "1"}[i == 49], d)
		d.Platform = platform
	}
}

func otherManifest(l []byte) func(*memory) {
	return func(m *memory) {
		d, other := m.image("app", "", here(), nil, l), m.image("app", "", here(), nil, layer(m.t, "other", []byte("other")))
		m.AddManifest("app", m.Manifest("app", other.Digest), d.Digest)
		m.index("app", "1", d)
	}
}

func lostManifest(l []byte) func(*memory) {
	return func(m *memory) {
		d := m.image("elsewhere", "", here(), nil, l)
		m.index("app", "1", d)
	}
}

// otherDigest: the tag answers with the digest of one image and the bytes of another.
func otherDigest(l []byte) func(*memory) {
	return func(m *memory) {
		m.image("app", "1", here(), nil, l)
		m.Misbehave(on("GET", rig.Manifest, 1, 2, rig.Header("Docker-Content-Digest", rig.Digest([]byte("other")))))
	}
}

func foreignLayer(mediaType string) func(*memory) {
	return func(m *memory) {
		m.image("app", "1", here(), func(c *rig.Contents) {
			l := &c.Layers[0]
			l.MediaType, l.URLs = mediaType, []string{m.URL + "/elsewhere/layer"}
			m.DropBlob("app", l.Digest)
		}, layer(m.t, "made", []byte("foreign")))
	}
}

// TestForeignLayerAtTheRegistry: a layer that may come from elsewhere is taken where it is at the registry, too.
func TestForeignLayerAtTheRegistry(t *testing.T) {
	m := newMemory(t)
	m.image("app", "1", here(), func(c *rig.Contents) {
		c.MediaType = "application/vnd.docker.distribution.manifest.v2+json"
		c.Config.MediaType = "application/vnd.docker.container.image.v1+json"
		c.Layers[0].MediaType, c.Layers[0].URLs = dockerForeign, []string{m.URL + "/elsewhere/layer"}
	}, layer(t, "made", []byte("foreign")))
	c := newClient(t)
	c.Run("pull", "-q", m.name("app:1"))
	if got := c.content(m.name("app:1"), "made"); got != "foreign" {
		t.Errorf("what came is %q", got)
	}
	for _, r := range m.Seen(rig.Other) {
		t.Errorf("it went elsewhere: %+v", r)
	}
}

// signature adds an artifact that refers to an image, or to nothing; what it says makes it one of its own.
func (m *memory) signature(repo, tag string, subject *rig.Descriptor, says string) rig.Descriptor {
	m.t.Helper()
	config := m.blob(repo, "application/vnd.oci.empty.v1+json", []byte("{}"))
	if subject != nil {
		subject = &rig.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	}
	d := m.document(repo, tag, rig.TypeManifest, rig.Contents{
		SchemaVersion: 2, MediaType: rig.TypeManifest, ArtifactType: "application/vnd.example.signature",
		Config: &config, Layers: []rig.Descriptor{m.blob(repo, "application/octet-stream", []byte(says))}, Subject: subject,
		Annotations: map[string]string{"says": fmt.Sprint(says)},
	})
	d.ArtifactType = "application/vnd.example.signature"
	return d
}
