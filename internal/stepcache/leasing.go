package stepcache

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/remotecache"
)

// The times of leases. A build that waits measures them by its own clock.
const (
	leaseRenewed = 5 * time.Second  // how often a lease is renewed
	leaseExpires = 20 * time.Second // without a renewal
	leaseLongest = time.Hour        // that a build waits for others to run a step
	leaseRelease = 5 * time.Second  // for the request that ends a lease

	firstPoll, lastPoll = 200 * time.Millisecond, 2 * time.Second

	// A registry has no conditional write. Builds that find no lease at the same time all write theirs; the last is left, and each
	// sees whose it is if it waits longer than the others take from their read to their write (Fischer's algorithm; Lamport, A fast
	// mutual exclusion algorithm, 1987). If one takes longer, two builds run the step, and the first record stays.
	leastSettle, mostSettle = 100 * time.Millisecond, 2 * time.Second
)

// lease is a step that this build runs, and no other build that uses leases.
type lease struct {
	w      *Writer
	key    digest.Digest
	holder string

	writes sync.WaitGroup // of the step's results
	mu     sync.Mutex
	kept   int // how many results were written

	stop    context.CancelFunc // ends the renewals
	renewed chan struct{}      // closed at their end
	renewal int
}

// Lease waits while another build runs the step with a key, and calls waiting if it has to. found is set if the cache has a result by then.
// Otherwise the caller runs the step, and ends the lease after that. A nil lease needs no end: leases cannot be used.
func (w *Writer) Lease(ctx context.Context, key digest.Digest, waiting func() (done func())) (_ remotecache.StepLease, found bool) {
	if !w.o.Leases || w.o.Reader == nil || w.unleased.Load() {
		return nil, false
	}
	l := &lease{w: w, key: key, holder: rand.Text()}
	got, err := l.acquire(ctx, waiting)
	if err != nil && ctx.Err() == nil { // who may not write leases gets the same answer again
		w.unleased.Store(true)
	}
	if got == acquired {
		l.begin()
		return l, false
	}
	return nil, got == foundResult
}

// acquisition is the result of waiting for a lease.
type acquisition int

const (
	notAcquired acquisition = iota // the step runs without a lease
	acquired
	foundResult // the cache has the result
)

// acquire waits until no other build holds the lease.
func (l *lease) acquire(ctx context.Context, waiting func() (done func())) (acquisition, error) {
	var other watch
	started, poll := time.Now(), firstPoll
	for {
		asked := time.Now()
		cur, err := readLease(ctx, l.w.at, l.key)
		if err != nil {
			return notAcquired, err
		}
		if other.holds(cur, asked) {
			if asked.Sub(started) > leaseLongest {
				return notAcquired, nil
			}
			if other.shown == nil {
				other.shown = waiting()
				defer other.shown()
			}
			if err := sleep(ctx, poll); err != nil {
				return notAcquired, err
			}
			poll = min(poll*3/2, lastPoll)
			continue
		}
		if cur.state == leaseFailed && cur.holder == other.last.holder {
			return notAcquired, nil // all that have waited run it: one after the other would fail
		}
		if cur.state != "" && l.w.o.Reader.again(ctx, l.key, other.shown != nil) {
			return foundResult, nil
		}
		won, err := l.take(ctx, asked)
		if err != nil {
			return notAcquired, err
		}
		if won {
			return acquired, nil
		}
	}
}

// watch is what a waiting build has seen of another's lease.
type watch struct {
	last  leaseState
	since time.Time // it was seen first
	shown func()    // ends what the display shows
}

// holds reports whether another build holds a lease that was read, and renews it.
func (w *watch) holds(cur leaseState, at time.Time) bool {
	if cur.state != leaseHeld {
		return false
	}
	if cur != w.last {
		w.last, w.since = cur, at
	}
	return at.Sub(w.since) < leaseExpires
}

// take writes the lease, and reports whether it is this build's. asked is when it was seen that no other build holds it.
func (l *lease) take(ctx context.Context, asked time.Time) (bool, error) {
	if err := writeLease(ctx, l.w.at, l.key, leaseState{l.holder, leaseHeld, 0}); err != nil {
		return false, err
	}
	if err := sleep(ctx, min(max(2*time.Since(asked), leastSettle), mostSettle)); err != nil {
		l.release(leaseFree)
		return false, err
	}
	cur, err := readLease(ctx, l.w.at, l.key)
	return cur.holder == l.holder, err
}

// release writes the last state of a lease that is this build's. What cannot be written expires.
func (l *lease) release(state string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.w.ctx), leaseRelease)
	defer cancel()
	if cur, err := readLease(ctx, l.w.at, l.key); err == nil && cur.holder == l.holder {
		_ = writeLease(ctx, l.w.at, l.key, leaseState{l.holder, state, l.renewal})
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin renews the lease until End.
func (l *lease) begin() {
	var ctx context.Context
	ctx, l.stop = context.WithCancel(l.w.ctx)
	l.renewed = make(chan struct{})
	go func() {
		defer close(l.renewed)
		_ = crash.Guard(func() error { // without renewals it expires
			for sleep(ctx, leaseRenewed) == nil && l.renew(ctx) {
			}
			return nil
		})()
	}()
}

// renew renews the lease, and reports whether it is this build's: another takes it if this one was slow. A registry that fails may work the
// next time.
func (l *lease) renew(ctx context.Context) bool {
	cur, err := readLease(ctx, l.w.at, l.key)
	if err != nil {
		return true
	}
	if cur.holder != l.holder {
		return false
	}
	l.renewal++
	_ = writeLease(ctx, l.w.at, l.key, leaseState{l.holder, leaseHeld, l.renewal})
	return true
}

// End ends the lease as soon as the results that the Writer got are written. err is the error of the step.
func (l *lease) End(err error) {
	l.w.work.Go(func() {
		l.writes.Wait()
		l.stop()
		<-l.renewed
		state := leaseFailed
		switch {
		case l.w.ctx.Err() != nil:
			state = leaseFree
		case err == nil && l.results() > 0:
			state = leaseDone
		}
		l.release(state)
	})
}

func (l *lease) results() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept
}

// wrote notes that a result is written, or is not.
func (l *lease) wrote(ok bool) {
	if l == nil {
		return
	}
	if ok {
		l.mu.Lock()
		l.kept++
		l.mu.Unlock()
	}
	l.writes.Done()
}
