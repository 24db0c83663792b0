package engineapi

import (
	"context"
	"sync"
	"time"
)

// collectEvery is how often the removals of images collect garbage: a collection reads all of the store, and docker rmi of many images asks
// for the removal of each.
const collectEvery = 10 * time.Second

// garbage knows whether removals have left some.
type garbage struct {
	mu   sync.Mutex
	last time.Time // when it was collected
	left bool
}

// due reports whether a removal is to collect; otherwise what it leaves is noted.
func (g *garbage) due(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.last) < collectEvery {
		g.left = true
		return false
	}
	g.last, g.left = now, false
	return true
}

// taken reports whether something was left, which the caller collects.
func (g *garbage) taken() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := g.left
	g.left = false
	return left
}

// collectRemoved collects after the removal of an image, unless another one has just done it.
func (s *Server) collectRemoved(ctx context.Context) {
	if s.garbage.due(time.Now()) {
		s.collect(ctx)
	}
}

// CollectLeft collects what removals have left. Call it when no client is there.
func (s *Server) CollectLeft(ctx context.Context) {
	if s.garbage.taken() {
		s.collect(ctx)
	}
}
