package solver

import (
	"context"
	"fmt"
	"sync/atomic"
)

// Limits on a graph. An operation waits for each of its inputs in a goroutine.
const (
	maxVertices = 1 << 14
	maxParts    = 1 << 16 // inputs, file actions and mounts of all operations
	maxOutputs  = 1 << 16 // of an operation, which has one for each of its mounts or actions
	maxName     = 1 << 10 // bytes of a name that consists of the names of other operations
)

// Limits on what the operations of a build make.
const (
	// MaxLayers is how many layers a result may have. Without a limit, merges of merges double them.
	MaxLayers = 10_000
	// maxChains bounds the layers of all chains that were not grown from one another, each of which is a list of its own.
	maxChains = 1 << 22
	// maxRunning is how many operations run at once: each takes memory and a thread.
	maxRunning = 256
)

// usage is what the operations of a build use.
type usage struct {
	running chan struct{}
	chains  atomic.Int64
}

func newUsage() *usage { return &usage{running: make(chan struct{}, maxRunning)} }

// enter waits until an operation may run, and returns the function that says that it has ended.
func (u *usage) enter(ctx context.Context) (leave func(), err error) {
	select {
	case u.running <- struct{}{}:
		return func() { <-u.running }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// made counts the results of an operation.
func (u *usage) made(inputs, outs []*Result) error {
	for _, out := range outs {
		if out == nil {
			continue
		}
		if n := out.Chain.Len(); n > MaxLayers {
			return fmt.Errorf("the result has %d layers: at most %d are supported", n, MaxLayers)
		}
		if !out.grownFrom(inputs) && u.chains.Add(int64(out.Chain.Len())) > maxChains {
			return fmt.Errorf("the results of the build have more than %d layers", maxChains)
		}
	}
	return nil
}

// grownFrom reports whether the chain of r shares its list with that of an input.
func (r *Result) grownFrom(inputs []*Result) bool {
	own := r.Chain.Links()
	for _, in := range inputs {
		if links := in.Chain.Links(); len(links) > 0 && len(own) > 0 && &links[0] == &own[0] {
			return true
		}
	}
	return len(own) == 0
}
