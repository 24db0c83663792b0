package stepcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/registry"
)

// slowRepository is a repository in memory whose requests take some time.
type slowRepository struct {
	mu       sync.Mutex
	tags     map[string][]byte
	requests int
	readOnly bool
}

var errReadOnly = errors.New("denied")

func newSlowRepository() *slowRepository { return &slowRepository{tags: map[string][]byte{}} }

func (r *slowRepository) request() {
	time.Sleep(rand.N(20 * time.Millisecond))
	r.mu.Lock()
	r.requests++
	r.mu.Unlock()
	time.Sleep(rand.N(20 * time.Millisecond))
}

func (r *slowRepository) Name() string { return "slow" }

func (r *slowRepository) Fetch(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return nil, errdef.ErrNotFound
}

func (r *slowRepository) Manifest(_ context.Context, tag string) (*registry.Manifest, error) {
	defer r.request()
	r.mu.Lock()
	defer r.mu.Unlock()
	raw, ok := r.tags[tag]
	if !ok {
		return nil, fmt.Errorf("%s: %w", tag, errdef.ErrNotFound)
	}
	return &registry.Manifest{Raw: raw}, nil
}

func (r *slowRepository) Blob(context.Context, ocispec.Descriptor, []byte) error {
	if r.readOnly {
		return errReadOnly
	}
	return nil
}

func (r *slowRepository) PutTag(_ context.Context, _ ocispec.Descriptor, raw []byte, tag string) error {
	r.request()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags[tag] = raw
	return nil
}

// leasing is a build that writes the cache and uses leases.
func leasing(ctx context.Context, at Repository) *Writer {
	return NewWriter(ctx, at, WriterOptions{Leases: true, Reader: NewReader(at, func(error) {})})
}

// waits counts how many builds wait.
type waits struct{ now, ever atomic.Int32 }

func (w *waits) begin() func() {
	w.now.Add(1)
	w.ever.Add(1)
	return func() { w.now.Add(-1) }
}

// TestLeaseOfManyBuilds: of builds that need a step at the same time one runs it, however long it takes, and the others find its result.
func TestLeaseOfManyBuilds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at, rec, w := newSlowRepository(), sample(), waits{}
		var ran, found atomic.Int32
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				b := leasing(t.Context(), at)
				got, ok := b.Lease(t.Context(), rec.Keys[1], w.begin)
				if ok {
					found.Add(1)
				}
				if l, _ := got.(*lease); l != nil {
					ran.Add(1)
					time.Sleep(3 * time.Minute)
					l.writes.Add(1)
					_, err := b.put(t.Context(), rec)
					l.wrote(err == nil)
					l.End(nil)
				}
				if err := b.Wait(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if ran.Load() != 1 || found.Load() != 19 || w.ever.Load() != 19 || w.now.Load() != 0 {
			t.Errorf("%d ran the step, %d found its result, %d waited, and %d wait", ran.Load(), found.Load(), w.ever.Load(), w.now.Load())
		}
	})
}

// TestLeaseOfDeadHolder: one of the builds that wait takes the place of a holder that was killed.
func TestLeaseOfDeadHolder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at, rec, w := newSlowRepository(), sample(), waits{}
		got, _ := leasing(t.Context(), at).Lease(t.Context(), rec.Keys[1], w.begin)
		dead, _ := got.(*lease)
		if dead == nil {
			t.Fatal("no lease")
		}
		time.Sleep(time.Minute)
		dead.stop()
		died := time.Now()
		var ran atomic.Int32
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				b := leasing(t.Context(), at)
				got, found := b.Lease(t.Context(), rec.Keys[1], w.begin)
				if found != (got == nil) {
					t.Error("a build runs the step without a lease")
				}
				if got == nil {
					return
				}
				ran.Add(1)
				if d := time.Since(died); d > 25*time.Second {
					t.Errorf("it was taken over after %v", d)
				}
				if _, err := b.put(t.Context(), rec); err != nil {
					t.Error(err)
				}
				l, _ := got.(*lease)
				l.kept++
				l.End(nil)
				_ = b.Wait()
			})
		}
		all.Wait()
		if ran.Load() != 1 || w.ever.Load() != 5 {
			t.Errorf("%d ran the step, %d waited", ran.Load(), w.ever.Load())
		}
	})
}

// TestLeaseWithoutResult: builds that wait for a step that fails all run it then. If its build is stopped, one does.
func TestLeaseWithoutResult(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stop  bool
		loose int // how many run it without a lease
	}{
		"failed":  {false, 5},
		"stopped": {true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				at, key, w := newSlowRepository(), digest.FromString("step"), waits{}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				b := leasing(ctx, at)
				got, _ := b.Lease(ctx, key, w.begin)
				if got == nil {
					t.Fatal("no lease")
				}
				var loose, leased atomic.Int32
				var all sync.WaitGroup
				for range 5 {
					all.Go(func() {
						b := leasing(t.Context(), at)
						got, found := b.Lease(t.Context(), key, w.begin)
						switch {
						case found:
							t.Error("it has a result")
						case got == nil:
							loose.Add(1)
						default:
							leased.Add(1)
							got.End(errors.New("exit code 1"))
							_ = b.Wait()
						}
					})
				}
				time.Sleep(10 * time.Second)
				if c.stop {
					cancel()
				}
				got.End(errors.New("exit code 1"))
				_ = b.Wait()
				all.Wait()
				if int(loose.Load()) < c.loose || loose.Load()+leased.Load() != 5 || c.stop && leased.Load() == 0 {
					t.Errorf("%d ran it without a lease, %d with one", loose.Load(), leased.Load())
				}
			})
		})
	}
}

// TestLeaseThatIsNotPossible: a build that may not write, or that cannot find what another has written, asks once or not at all.
func TestLeaseThatIsNotPossible(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := newSlowRepository()
		at.readOnly = true
		b := leasing(t.Context(), at)
		for range 3 {
			if got, found := b.Lease(t.Context(), digest.FromString("step"), nil); got != nil || found {
				t.Error("a lease that cannot be written")
			}
		}
		if at.requests != 1 {
			t.Errorf("%d requests", at.requests)
		}
		unread := NewWriter(t.Context(), at, WriterOptions{Leases: true})
		if got, found := unread.Lease(t.Context(), digest.FromString("step"), nil); got != nil || found || at.requests != 1 {
			t.Error("a lease of a build that does not read the cache")
		}
	})
}

// TestLeaseOfHostileHolder: what is no lease holds nothing, and one that is always renewed delays a build by a limit.
func TestLeaseOfHostileHolder(t *testing.T) {
	t.Parallel()
	key := digest.FromString("step")
	for _, text := range []string{"", "[", "{}", `{"artifactType":"` + LeaseType + `","annotations":{"mica.lease.state":"held"}}`, strings.Repeat("[", 1<<20)} {
		synctest.Test(t, func(t *testing.T) {
			at := newSlowRepository()
			at.tags[LeaseTag(key)] = []byte(text)
			b := leasing(t.Context(), at)
			got, _ := b.Lease(t.Context(), key, nil)
			if got == nil {
				t.Fatalf("%.100q: no lease", text)
			}
			got.End(nil)
			_ = b.Wait()
		})
	}
	synctest.Test(t, func(t *testing.T) {
		at, w := newSlowRepository(), waits{}
		ctx, cancel := context.WithCancel(t.Context())
		var hostile sync.WaitGroup
		defer hostile.Wait()
		defer cancel()
		hostile.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := writeLease(ctx, at, key, leaseState{"hostile", leaseHeld, i}); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
			}
		})
		time.Sleep(time.Second)
		started := time.Now()
		if got, found := leasing(ctx, at).Lease(ctx, key, w.begin); got != nil || found || time.Since(started) > leaseLongest+time.Minute {
			t.Errorf("%v, %v after %v", got, found, time.Since(started))
		}
	})
}
