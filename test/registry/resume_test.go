//go:build e2e

package registry

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

const bigLayer = 12 << 20

// big adds the image app:1 with one large layer, and gives the layer's blob.
func (m *memory) big() rig.Descriptor {
	m.t.Helper()
	var blob rig.Descriptor
	m.image("app", "1", here(), func(c *rig.Contents) { blob = c.Layers[0] }, layer(m.t, "made", noise(bigLayer)))
	return blob
}

// of makes a fault meet all requests for a blob.
func of(blob rig.Descriptor, fault func(nth int) rig.Fault) func(rig.Request) rig.Fault {
	n := 0
	return func(r rig.Request) rig.Fault {
		if r.Method != http.MethodGet || r.Ref != blob.Digest {
			return nil
		}
		n++
		return fault(n)
	}
}

// partial is how much of a blob the store keeps of pulls that did not end.
func (c *client) partial(blob rig.Descriptor) int64 {
	list, _ := filepath.Glob(filepath.Join(c.Root, "tmp", "partial-"+strings.TrimPrefix(blob.Digest, "sha256:")+"*"))
	var size int64
	for _, path := range list {
		if info, err := os.Stat(path); err == nil {
			size = max(size, info.Size())
		}
	}
	return size
}

// goesOn pulls, and expects that only the rest of the blob comes.
func (m *memory) goesOn(c *client, blob rig.Descriptor, had int64) {
	m.t.Helper()
	m.Behave()
	c.Run("pull", "-q", m.name("app:1"))
	asked := 0
	for _, r := range m.SeenBy("GET", rig.Blob) {
		if r.Ref != blob.Digest {
			continue
		}
		asked++
		var from int64
		if _, err := fmt.Sscanf(r.Range, "bytes=%d-", &from); err != nil || from < had || r.Status != 206 {
			m.t.Errorf("had %d bytes, and asks for %q, which is answered %d", had, r.Range, r.Status)
		}
	}
	if asked == 0 {
		m.t.Error("nobody asks for the rest")
	}
	if got := c.content(m.name("app:1"), "made"); got != string(noise(bigLayer)) {
		m.t.Error("what came is another")
	}
	if left := c.partial(blob); left != 0 {
		m.t.Errorf("%d bytes are left behind", left)
	}
}

// TestPullGoesOnWhereItBroke: another process needs only what had not come.
func TestPullGoesOnWhereItBroke(t *testing.T) {
	m := newMemory(t)
	blob := m.big()
	c := newClient(t)
	m.Misbehave(of(blob, func(nth int) rig.Fault {
		if nth == 1 {
			return rig.Cut(5 << 20)
		}
		return rig.Cut(0)
	}))
	c.refuses(`layer`, "pull", m.name("app:1"))
	if had := c.partial(blob); had < 4<<20 {
		t.Fatalf("of 5 MB that came, %d bytes are kept", had)
	}
	m.goesOn(c, blob, 4<<20)
}

// TestPullGoesOnWhereItWasEnded by a signal, in the middle of a layer.
func TestPullGoesOnWhereItWasEnded(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			m := newMemory(t)
			blob := m.big()
			c := newClient(t)
			c.build("mine", "mine:1")
			before := c.images()
			release := make(chan struct{})
			m.Misbehave(of(blob, func(int) rig.Fault { return rig.Hold(5<<20, release) }))
			cmd := c.Command("pull", m.name("app:1"))
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
			m.goesOn(c, blob, 4<<20)
		})
	}
}

// TestSpoiltRestIsFetchedAnew: what is kept of an earlier pull is not believed.
func TestSpoiltRestIsFetchedAnew(t *testing.T) {
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
			m := newMemory(t)
			blob := m.big()
			c := newClient(t)
			m.Misbehave(of(blob, func(nth int) rig.Fault {
				if nth == 1 {
					return rig.Cut(5 << 20)
				}
				return rig.Cut(0)
			}))
			c.refuses(`layer`, "pull", m.name("app:1"))
			list, err := filepath.Glob(filepath.Join(c.Root, "tmp", "partial-*"))
			if err != nil || len(list) == 0 {
				t.Fatalf("nothing is kept: %v", err)
			}
			for _, path := range list {
				if err := spoil(path); err != nil {
					t.Fatal(err)
				}
			}
			m.Behave()
			out := c.Try(nil, "pull", "-q", m.name("app:1"))
			if out.Code != 0 { // once may fail, but not for ever
				c.Run("pull", "-q", m.name("app:1"))
			}
			if got := c.content(m.name("app:1"), "made"); got != string(noise(bigLayer)) {
				t.Error("what came is another")
			}
		})
	}
}

// TestRestWithoutRanges: a registry that knows no ranges sends the whole layer again.
func TestRestWithoutRanges(t *testing.T) {
	m := newMemory(t)
	blob := m.big()
	c := newClient(t)
	m.Misbehave(of(blob, func(nth int) rig.Fault {
		if nth == 1 {
			return rig.Cut(5 << 20)
		}
		return rig.Cut(0)
	}))
	c.refuses(`layer`, "pull", m.name("app:1"))
	m.Misbehave(always(rig.NoRanges))
	c.Run("pull", "-q", m.name("app:1"))
	if got := c.content(m.name("app:1"), "made"); got != string(noise(bigLayer)) {
		t.Error("what came is another")
	}
}

// TestPullsAtOnce: processes that pull the same image do not disturb each other.
func TestPullsAtOnce(t *testing.T) {
	m := newMemory(t)
	m.big()
	c := newClient(t)
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() { errs <- c.Command("pull", "-q", m.name("app:1")).Run() }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := c.content(m.name("app:1"), "made"); got != string(noise(bigLayer)) {
		t.Error("what came is another")
	}
}
