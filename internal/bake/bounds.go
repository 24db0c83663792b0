package bake

import (
	"fmt"
	"runtime/metrics"
	"time"
)

// What evaluating files may take. Loops in loops, aliases of aliases and widths of format stand for any amount of memory, and
// the evaluators have no limits of their own; a file in use takes milliseconds.
const (
	maxHeap = 1 << 30 // bytes
	maxTime = 30 * time.Second
)

// bounded waits for an evaluation. Nothing can interrupt one: where it takes too much it is left behind, and its caller ends
// the process.
func bounded(evaluate func()) error {
	done := make(chan struct{})
	before := heap()
	go func() {
		defer close(done)
		evaluate()
	}()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	late := time.NewTimer(maxTime)
	defer late.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-look.C:
			if heap() > before+maxHeap {
				return fmt.Errorf("bake file: its evaluation takes more than %d MiB of memory", maxHeap>>20)
			}
		case <-late.C:
			return fmt.Errorf("bake file: its evaluation takes more than %s", maxTime)
		}
	}
}

// heap is how many bytes objects take.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
