package bridge

import (
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Limits on what is kept of front ends until their builds end, in bytes: graphs, options, names, warnings, progress.
const (
	maxKept = 256 << 20 // of the front ends of one build
	// maxTotal is for all builds of a server. What each may keep beside that leaves those of others working when some have taken it.
	maxTotal = 512 << 20
	keptFree = 2 << 20
	// callSize is what a call leaves beside what it has sent.
	callSize = 1 << 10
)

// Memory accounts for what the builds of a server keep together. It is safe for concurrent use.
type Memory struct {
	mu   sync.Mutex
	used int
}

// Build returns the account of a build. A nil Memory has one without a limit for all builds.
func (m *Memory) Build() *Kept { return &Kept{memory: m} }

// Kept is what is kept of the front ends of a build, in bytes. It is safe for concurrent use.
type Kept struct {
	memory *Memory

	mu    sync.Mutex
	bytes int
	ended bool
}

// Grow accounts for n bytes more, or less if n is negative. It fails at a limit, and nothing is accounted for then.
func (k *Kept) Grow(n int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.ended:
		return errEnded
	case n > maxKept-k.bytes:
		return status.Errorf(codes.ResourceExhausted, "the front end has asked for more than a build can keep: %d bytes", maxKept)
	case !k.memory.grow(shared(k.bytes+n) - shared(k.bytes)):
		return status.Errorf(codes.ResourceExhausted, "the builds that run keep %d bytes: try again when one has ended", maxTotal)
	}
	k.bytes += n
	return nil
}

// Close gives back what the build has kept, at its end.
func (k *Kept) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ended {
		k.memory.grow(-shared(k.bytes))
		k.ended = true
	}
}

// shared is the part of the bytes of a build that counts for all builds.
func shared(bytes int) int { return max(0, bytes-keptFree) }

func (m *Memory) grow(n int) bool {
	if m == nil {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n > maxTotal-m.used {
		return false
	}
	m.used += n
	return true
}
