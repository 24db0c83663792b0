package control

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/solver"
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
	j, err := c.jobs.begin(t.Context(), "running", 0)
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

// TestRequestBytes: the requests of the builds that run have a limit together, which leaves small ones alone.
func TestRequestBytes(t *testing.T) {
	t.Parallel()
	js := newJobs()
	first, err := js.begin(t.Context(), "a", freeRequest+maxRequests)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.begin(t.Context(), "b", freeRequest+1); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("more than the limit: %v", err)
	}
	small, err := js.begin(t.Context(), "c", freeRequest)
	if err != nil {
		t.Fatalf("a small request beside large ones: %v", err)
	}
	js.end(small)
	js.end(first)
	last, err := js.begin(t.Context(), "b", freeRequest+1)
	if err != nil {
		t.Fatalf("after the end of a build: %v", err)
	}
	if js.end(last); js.bytes != 0 || js.running != 0 {
		t.Errorf("%d bytes of %d builds are left", js.bytes, js.running)
	}
}

// TestManyBuilds: a client runs a number of builds at once, and does not shut out others.
func TestManyBuilds(t *testing.T) {
	t.Parallel()
	js := newJobs()
	of := func(address string) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{Addr: &net.UnixAddr{Name: address, Net: "unix"}})
	}
	var last *job
	for i := range maxBuilds + ownBuilds {
		var err error
		if last, err = js.begin(of("greedy"), strconv.Itoa(i), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.begin(of("greedy"), "more", 0); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("more than the limit: %v", err)
	}
	if _, err := js.begin(of("modest"), "modest", 0); err != nil {
		t.Errorf("another client: %v", err)
	}
	js.end(last)
	if _, err := js.begin(of("greedy"), "more", 0); err != nil {
		t.Errorf("after the end of a build: %v", err)
	}
}

// TestEndedBytes: the progress of builds that have ended has a limit, and the oldest goes first.
func TestEndedBytes(t *testing.T) {
	t.Parallel()
	js := newJobs()
	warning := make([]byte, maxEndedBytes/3)
	for _, ref := range []string{"a", "b", "c", "d"} {
		j, err := js.begin(t.Context(), ref, 0)
		if err != nil {
			t.Fatal(err)
		}
		j.add(&solver.Status{Warnings: []*bkclient.VertexWarning{{Short: warning}}})
		js.end(j)
	}
	for ref, want := range map[string]bool{"a": false, "b": false, "c": true, "d": true} {
		if js.has(ref) != want {
			t.Errorf("%s is kept: %t", ref, !want)
		}
	}
	if js.kept > maxEndedBytes || len(js.ended) != 2 {
		t.Errorf("%d builds with %d bytes", len(js.ended), js.kept)
	}
}

// TestForgottenOutput: the oldest output of a build goes, and what is not output stays.
func TestForgottenOutput(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ size, count int }{
		"large pieces": {maxLog / 4, 6},
		"one letter":   {1, maxLog / 64}, // a piece has the digest of its step, too
	} {
		j, err := newJobs().begin(t.Context(), "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		for range c.count {
			j.add(&solver.Status{Logs: []*bkclient.VertexLog{{Vertex: digest.FromString("v"), Data: make([]byte, c.size)}}})
		}
		j.add(&solver.Status{Warnings: []*bkclient.VertexWarning{{}}})
		events, _ := j.after(0)
		var kept, warnings, total int
		for _, e := range events {
			if e == nil {
				continue
			}
			kept++
			warnings += len(e.Warnings)
			total += e.SizeVT()
		}
		if kept == len(events) || kept < 3 || warnings != 1 || total > maxLog+8*len(events) || total != j.total {
			t.Errorf("%s: %d of %d events, %d warnings, %d bytes counted as %d", name, kept, len(events), warnings, total, j.total)
		}
	}
}

// TestProgressLimit: the progress of a build that runs counts with what its front ends keep, but not its output, which is forgotten. A build with
// too much is canceled.
func TestProgressLimit(t *testing.T) {
	t.Parallel()
	js := newJobs()
	j, err := js.begin(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 70 {
		j.add(&solver.Status{Logs: []*bkclient.VertexLog{{Data: make([]byte, maxLog/2)}}})
	}
	if j.ctx.Err() != nil {
		t.Fatalf("output: %v", context.Cause(j.ctx))
	}
	name := strings.Repeat("n", 8<<20)
	for n := 0; j.ctx.Err() == nil; n++ {
		if n > 100 {
			t.Fatal("vertices have no limit")
		}
		j.add(&solver.Status{Vertexes: []*bkclient.Vertex{{Digest: digest.FromString("v"), Name: name}}})
	}
	if err := j.reason(context.Canceled); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v", err)
	}
	if err := j.reason(nil); err != nil {
		t.Errorf("a build that has ended: %v", err)
	}
	js.end(j)
}

// TestLongRef: a reference that is long is refused; it would be kept after the build.
func TestLongRef(t *testing.T) {
	t.Parallel()
	if _, err := newJobs().begin(t.Context(), strings.Repeat("r", maxRef+1), 0); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}
