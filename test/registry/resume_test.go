//go:build e2e

package registry

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

const bigLayer = 12 << 20

// putBig adds the image app:1 with one large layer, and returns the layer's blob.
func putBig(m *registrytest.Server) registrytest.Descriptor {
	m.T.Helper()
	var blob registrytest.Descriptor
	m.PutImage("app", "1", runtime.GOARCH, func(c *registrytest.Contents) { blob = c.Layers[0] }, registrytest.Layer(m.T, "made", registrytest.Noise(bigLayer)))
	return blob
}

// of makes a fault meet all requests for a blob.
func of(blob registrytest.Descriptor, fault func(nth int) registrytest.Fault) func(registrytest.Request) registrytest.Fault {
	n := 0
	return func(r registrytest.Request) registrytest.Fault {
		if r.Method != http.MethodGet || r.Ref != blob.Digest {
			return nil
		}
		n++
		return fault(n)
	}
}

// partial is how much of a blob the store keeps of pulls that did not end.
func (c *client) partial(blob registrytest.Descriptor) int64 {
	list, _ := filepath.Glob(filepath.Join(c.Root, "tmp", "partial-"+strings.TrimPrefix(blob.Digest, "sha256:")+"*"))
	var size int64
	for _, path := range list {
		if info, err := os.Stat(path); err == nil {
			size = max(size, info.Size())
		}
	}
	return size
}

// resumes pulls, and expects requests for the rest of the blob alone.
func (c *client) resumes(m *registrytest.Server, blob registrytest.Descriptor, had int64) {
	c.t.Helper()
	m.Behave()
	c.Run("pull", "-q", m.Name("app:1"))
	asked := 0
	for _, r := range m.SeenBy("GET", registrytest.Blob) {
		if r.Ref != blob.Digest {
			continue
		}
		asked++
		var from int64
		if _, err := fmt.Sscanf(r.Range, "bytes=%d-", &from); err != nil || from < had || r.Status != 206 {
			c.t.Errorf("had %d bytes, requests %q, and gets %d", had, r.Range, r.Status)
		}
	}
	if asked == 0 {
		c.t.Error("the rest is not requested")
	}
	if got := c.content(m.Name("app:1"), "made"); got != string(registrytest.Noise(bigLayer)) {
		c.t.Error("what came is another")
	}
	if left := c.partial(blob); left != 0 {
		c.t.Errorf("%d bytes are left behind", left)
	}
}

// TestPullResumes after it was ended by a signal, in the middle of a layer.
func TestPullResumes(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			blob := putBig(m)
			c := newClient(t)
			c.build("mine", "mine:1")
			before := c.images()
			release := make(chan struct{})
			m.Misbehave(of(blob, func(int) registrytest.Fault { return registrytest.Hold(5<<20, release) }))
			cmd := c.Command("pull", m.Name("app:1"))
			var said strings.Builder
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			rig.Eventually(t, "half the layer comes", func() bool { return c.partial(blob) > 4<<20 })
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("the pull succeeded")
			}
			close(release)
			if strings.Contains(said.String(), "goroutine ") {
				t.Errorf("internals show: %s", &said)
			}
			if after := c.images(); after != before {
				t.Errorf("the store has\n%snot\n%s", after, before)
			}
			c.Run("system", "df")
			c.resumes(m, blob, 4<<20)
		})
	}
}

// TestPullsAtOnce: processes that pull the same image do not disturb each other.
func TestPullsAtOnce(t *testing.T) {
	m := registrytest.New(t)
	putBig(m)
	c := newClient(t)
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() { errs <- c.Command("pull", "-q", m.Name("app:1")).Run() }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := c.content(m.Name("app:1"), "made"); got != string(registrytest.Noise(bigLayer)) {
		t.Error("what came is another")
	}
}
