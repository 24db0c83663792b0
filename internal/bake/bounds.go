package bake

import (
	"fmt"
	"runtime/metrics"
	"time"
)

// Limits of evaluating files. Nested loops, aliases of aliases and widths of format can take any amount of memory, and the
// evaluators have no limits of their own. A file in use takes milliseconds.
const (
	maxHeap = 1 << 30 // bytes
	maxTime = 30 * time.Second
)

// bounded waits for an evaluation. Nothing can interrupt one: if it takes too much, it is abandoned, and the caller ends the
// process.
func bounded(evaluate func()) error {
	done := make(chan struct{})
	before := heap()
	go func() {
		defer close(done)
		evaluate()
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(maxTime)
	defer timeout.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-tick.C:
			if heap() > before+maxHeap {
				return fmt.Errorf("bake file: the evaluation takes more than %d MiB of memory", maxHeap>>20)
			}
		case <-timeout.C:
			return fmt.Errorf("bake file: the evaluation takes more than %s", maxTime)
		}
	}
}

// heap is how many bytes objects take.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
