//go:build e2e

package registry

import (
	"net/http"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestLargeLayerComesInRanges, over several connections, where one is slow; from a registry that is fast, or that knows no
// ranges, it comes in one piece.
func TestLargeLayerComesInRanges(t *testing.T) {
	m := newMemory(t)
	var blob rig.Descriptor
	m.image("app", "1", here(), func(c *rig.Contents) { blob = c.Layers[0] }, layer(t, "made", noise(80<<20)))
	for name, c := range map[string]struct {
		fault rig.Fault
		least int // ranges that are asked for
	}{
		"fast": {nil, 0},
		"slow": {rig.SlowLine, 10},
		"slow without ranges": {func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			rig.NoRanges(&rig.SlowWriter{ResponseWriter: w}, r, next)
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(m.SeenBy(http.MethodGet, rig.Blob))
			m.hurt(func(rig.Request) rig.Fault { return c.fault })
			client := newClient(t)
			client.Run("pull", "-q", m.name("app:1"))
			client.inspect(m.name("app:1"), "{{.Id}}")
			ranges := 0
			for _, r := range m.SeenBy(http.MethodGet, rig.Blob)[before:] {
				if r.Ref == blob.Digest && r.Range != "" {
					ranges++
				}
			}
			if ranges < c.least || c.least == 0 && ranges > 0 {
				t.Errorf("%d ranges of a layer of 80 MB were asked for", ranges)
			}
		})
	}
}

// TestDigestWithoutTag: an image may be pulled by its digest, is found by it, listed by it, and removed by it.
func TestDigestWithoutTag(t *testing.T) {
	m := newMemory(t)
	d := m.image("app", "1", here(), nil, layer(t, "made", []byte("by digest")))
	c := newClient(t)
	name := m.name("app@" + d.Digest)
	c.Run("pull", "-q", name)
	c.inspect(name, "{{.Id}}")
	if got, want := c.Run("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"), m.name("app <none> "+d.Digest+"\n"); got != want {
		t.Errorf("listed as %q, want %q", got, want)
	}
	if out := c.Run("rmi", name); !strings.HasPrefix(out, "Untagged: "+name+"\nDeleted: sha256:") {
		t.Errorf("rmi says %q", out)
	}
}

// TestPlainLayersStayPlain: what came from a registry goes to another as it was, compressed or not, even when the store has
// the layer in another form.
func TestPlainLayersStayPlain(t *testing.T) {
	from, to := newMemory(t), newMemory(t)
	made := newClient(t)
	rig.ImportBusybox(t, made.Mica, "base")
	for _, compression := range []string{"none", "zstd", "gzip"} {
		name := from.name(compression + ":1")
		made.Run("tag", "base", name)
		d := digestIn(t, made.Run("push", "--compression", compression, name))
		c := newClient(t)
		rig.ImportBusybox(t, c.Mica, "base")
		c.Run("pull", "-q", name)
		c.Run("tag", name, to.name(compression+":1"))
		if got := digestIn(t, c.Run("push", to.name(compression+":1"))); got != d {
			t.Errorf("--compression %s: pulled as %s, pushed as %s", compression, d, got)
		}
	}
}

// TestCosignTagsAreCopied: what cosign attaches by the names of tags travels as referrers do.
func TestCosignTagsAreCopied(t *testing.T) {
	from, to := newMemory(t), newMemory(t)
	image := from.image("app", "1", here(), nil, layer(t, "made", []byte("signed")))
	tag := strings.Replace(image.Digest, ":", "-", 1) + ".sig"
	from.signature("app", tag, nil, "a signature of cosign's")
	c := newClient(t)
	c.copies(image.Digest, "--referrers", from.name("app:1"), to.name("app:1"))
	if to.Manifest("app", tag).Data == nil {
		t.Error("cosign's tag is not copied")
	}
}
