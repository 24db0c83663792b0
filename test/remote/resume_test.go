//go:build e2e

package remote

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestResume: what arrived of a pull that failed is not fetched again by the next.
func TestResume(t *testing.T) {
	f := newFake(t)
	f.image("app", "1", nil, nil, noise(t, 8<<20))
	m := rig.NewMica(t)
	var blobs sync.Map
	// The layer comes in pieces until it has come halfway; from there on there is nothing.
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		n, _ := blobs.LoadOrStore(r.URL.Path, new(int))
		if *n.(*int)++; len(f.blobs[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]) < 1<<20 {
			return false
		}
		if *n.(*int) == 1 {
			return f.cut(4<<20)(w, r)
		}
		return f.cut(0)(w, r)
	})
	if out := m.Try(nil, "pull", f.host()+"/app:1"); out.Code != 1 {
		t.Fatalf("a pull that cannot succeed ends with %d: %s", out.Code, out.Stderr)
	}
	f.setFault(nil)
	f.forget()
	f.fetchesRest(m, "app:1", 4<<20)
}

// fetchesRest pulls, and expects that the first bytes of the layer are not asked for again.
func (f *fake) fetchesRest(m *rig.Mica, name string, had int64) {
	f.t.Helper()
	m.Run("pull", "-q", f.host()+"/"+name)
	for _, r := range f.seen("GET /v2/") {
		_, asked, ok := strings.Cut(r, "bytes=")
		if !ok || !strings.Contains(r, "/blobs/") {
			continue
		}
		var from int64
		if _, err := fmt.Sscanf(asked, "%d-", &from); err != nil || from < had/2 {
			f.t.Errorf("%s: asks again for what was there", r)
		}
		m.Run("export", "-o", "/dev/null", f.host()+"/"+name)
		return
	}
	f.t.Errorf("no request for the rest of the layer: %v", f.seen("GET"))
}

// TestKilledPullResumes: a pull that is killed or interrupted in the middle leaves a sound store, and the next goes on.
func TestKilledPullResumes(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			f := newFake(t)
			f.image("app", "1", nil, nil, noise(t, 8<<20))
			m := rig.NewMica(t)
			release := make(chan struct{})
			f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
				digest := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
				if r.Method != http.MethodGet || len(f.blobs[digest]) < 1<<20 {
					return false
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(f.blobs[digest])))
				_, _ = w.Write(f.blobs[digest][:4<<20])
				_ = http.NewResponseController(w).Flush()
				<-release
				return true
			})
			cmd := m.Command("pull", "-q", f.host()+"/app:1")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			waitForPartial(t, m, 2<<20)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("the pull succeeded")
			}
			close(release)
			if list := m.Run("images", "-aq"); list != "" {
				t.Errorf("half an image is listed: %s", list)
			}
			f.setFault(nil)
			f.forget()
			f.fetchesRest(m, "app:1", 2<<20)
		})
	}
}

// waitForPartial waits until so many bytes of a layer have come.
func waitForPartial(t *testing.T, m *rig.Mica, size int64) {
	t.Helper()
	rig.Eventually(t, "a layer begins to arrive", func() bool {
		list, _ := filepath.Glob(filepath.Join(m.Root, "tmp", "partial-*"))
		for _, p := range list {
			if info, err := os.Stat(p); err == nil && info.Size() >= size {
				return true
			}
		}
		return false
	})
}

// TestTwoPullsAtOnce: two processes that pull the same image fetch each layer once.
func TestTwoPullsAtOnce(t *testing.T) {
	f := newFake(t)
	f.image("app", "1", nil, nil, noise(t, 4<<20))
	m := rig.NewMica(t)
	m.Run("images")
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() { errs <- m.Command("pull", "-q", f.host()+"/app:1").Run() }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	large := 0
	for _, r := range f.seen("GET /v2/app/blobs/") {
		digest, _, _ := strings.Cut(r[strings.LastIndex(r, "/")+1:], " ")
		if len(f.blobs[digest]) > 1<<20 {
			large++
		}
	}
	if large != 1 {
		t.Errorf("the layer was fetched %d times", large)
	}
	m.Run("export", "-o", "/dev/null", f.host()+"/app:1")
}

// TestLargeLayerInRanges: a large layer comes over several connections; and in one piece from a registry that knows no
// ranges.
func TestLargeLayerInRanges(t *testing.T) {
	f := newFake(t)
	f.image("app", "1", nil, nil, noise(t, 80<<20))
	m := rig.NewMica(t)
	m.Run("pull", "-q", f.host()+"/app:1")
	ranges := 0
	for _, r := range f.seen("GET /v2/app/blobs/") {
		if strings.Contains(r, "bytes=") {
			ranges++
		}
	}
	if ranges < 10 {
		t.Errorf("only %d ranges of a layer of 80 MB were asked for", ranges)
	}
	want := m.Run("inspect", "-f", "{{.Id}} {{.Size}}", f.host()+"/app:1")
	f.setFault(func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	})
	other := rig.NewMica(t)
	other.Run("pull", "-q", f.host()+"/app:1")
	if got := other.Run("inspect", "-f", "{{.Id}} {{.Size}}", f.host()+"/app:1"); got != want {
		t.Errorf("without ranges: %s, with: %s", got, want)
	}
}
