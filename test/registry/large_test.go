//go:build e2e

package registry

import (
	"runtime"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestDigestWithoutTag: an image may be pulled by its digest, is found by it, listed by it, and removed by it.
func TestDigestWithoutTag(t *testing.T) {
	m := registrytest.New(t)
	d := m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("by digest")))
	c := newClient(t)
	name := m.Name("app@" + d.Digest)
	c.Run("pull", "-q", name)
	c.inspect(name, "{{.Id}}")
	if got, want := c.Run("images", "-a", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"), m.Name("app <none> "+d.Digest+"\n"); got != want {
		t.Errorf("listed as %q, want %q", got, want)
	}
	if out := c.Run("rmi", name); !strings.HasPrefix(out, "Untagged: "+name+"\nDeleted: sha256:") {
		t.Errorf("rmi says %q", out)
	}
}
