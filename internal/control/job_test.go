package control

import (
	"path/filepath"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/store"
)

// sink is a client that reads progress.
type sink struct {
	controlapi.Control_StatusServer
}

func (sink) Send(*controlapi.StatusResponse) error { return nil }

// TestReplay: a build that has begun while a client asked for it is not replayed from the history, which has only its beginning.
func TestReplay(t *testing.T) {
	t.Parallel()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	c := &Controller{o: Options{Store: s}, jobs: newJobs()}
	w, err := history.Open(s).Begin(t.Context(), &history.Build{Ref: "running", Line: "l", Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.replay("running", sink{}); err != nil {
		t.Errorf("a build of another process: %v", err)
	}
	j, err := c.jobs.begin("running", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.replay("running", sink{}); status.Code(err) != codes.NotFound {
		t.Errorf("a build of this server: %v", err)
	}
	c.jobs.end(j)
	if err := w.End(); err != nil {
		t.Error(err)
	}
}

// TestRequestBytes: the requests of the builds that run have a limit together.
func TestRequestBytes(t *testing.T) {
	t.Parallel()
	js := newJobs()
	first, err := js.begin("a", maxRequests-10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.begin("b", 11); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("more than the limit: %v", err)
	}
	js.end(first)
	last, err := js.begin("b", 11)
	if err != nil {
		t.Fatalf("after the end of a build: %v", err)
	}
	if js.end(last); js.bytes != 0 || js.running != 0 {
		t.Errorf("%d bytes of %d builds are left", js.bytes, js.running)
	}
}
