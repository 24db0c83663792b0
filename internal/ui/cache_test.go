package ui

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/buildcache"
)

// record puts a step with a layer into the cache.
func (l *lab) record(name, words string) {
	l.t.Helper()
	var key buildcache.Key
	if err := key.AddOperation(name, nil); err != nil {
		l.t.Fatal(err)
	}
	made := l.write(words)
	if err := buildcache.New(l.store).Put(key, name, []buildcache.Chain{buildcache.NewChain(buildcache.Link{DiffID: made.DiffID})}); err != nil {
		l.t.Fatal(err)
	}
}

// TestCache: what mica system df -v shows, and a prune as mica builder prune does it.
func TestCache(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.image("app", "a=1")
	l.record("RUN shared", "a=1")
	l.record("RUN https://u:hunter2@host/", "b=22")
	var p cachePage
	l.get("cache", &p)
	if len(p.Usage) != 2 || p.Usage[0].Type != "Images" || p.Usage[0].Total != 1 || p.Usage[1].Total != 2 || p.Usage[1].Reclaimable == 0 || p.Total != 2 {
		t.Errorf("%+v", p)
	}
	if text := fmt.Sprintf("%+v", p.Cache); len(p.Cache) != 2 || strings.Contains(text, "hunter2") || len(p.Cache[0].ID) != shownID || p.Cache[0].Size+p.Cache[1].Size != 3 {
		t.Errorf("%s", text)
	}
	for body, want := range map[string]int{`{"until":"yesterday"}`: 400, `{"keepStorage":"much"}`: 400, `{"everything":true}`: 400, `[]`: 400} {
		if status, text := l.post("cache/prune", body); status != want {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	for _, tt := range []struct {
		body    string
		removed int
	}{{`{"until":"24h"}`, 0}, {`{"keepStorage":"1GB"}`, 0}, {`{}`, 1}, {`{"all":true}`, 1}, {`{"all":true}`, 0}} {
		status, text := l.post("cache/prune", tt.body)
		var got struct{ Removed, Freed int }
		if err := json.Unmarshal([]byte(text), &got); err != nil || status != http.StatusOK || got.Removed != tt.removed {
			t.Errorf("%s: %d %s, want %d removed", tt.body, status, text, tt.removed)
		}
	}
}

// TestPruneBesideReaders: a prune waits for requests that read the store, and these for it; all succeed.
func TestPruneBesideReaders(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.image("app", "a=1")
	l.record("RUN x", "b=22")
	done := make(chan int, 20)
	for i := range cap(done) {
		go func() {
			req := l.request(http.MethodGet, "api/files?image=app", "")
			if i%4 == 0 {
				req = l.request(http.MethodPost, "api/cache/prune", "{}")
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				done <- 0
				return
			}
			_ = res.Body.Close()
			done <- res.StatusCode
		}()
	}
	for range cap(done) {
		if status := <-done; status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
}
