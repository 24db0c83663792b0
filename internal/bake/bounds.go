package bake

import (
	"fmt"
	"runtime/metrics"
	"time"

	"github.com/micabuild/mica/internal/crash"
)

// Limits of evaluating files. Nested loops, aliases of aliases, widths of format and lists that targets inherit on many paths can
// take any amount of memory, and the evaluators have no limits of their own. A file in use takes milliseconds.
const (
	maxHeap = 1 << 30 // bytes
	maxTime = 30 * time.Second
)

// bounded waits for an evaluation. Nothing can interrupt one: if it takes too much, it is abandoned, and the caller ends the
// process.
func bounded(evaluate func() error) error {
	done := make(chan error, 1)
	before := heap()
	go func() { done <- crash.Guard(evaluate)() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(maxTime)
	defer timeout.Stop()
	for {
		select {
		case err := <-done:
			return err
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
