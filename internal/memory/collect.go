package memory

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
)

// spareHeap is how much memory a command may take before anything is collected.
const spareHeap = 64 << 20

// stays is set in a process that waits for work.
var stays atomic.Bool

// DelayCollection keeps commands that are soon over from collecting garbage, which a small heap makes Go do often: most
// end before they have taken spareHeap. From the first collection on memory is kept to a third more than what is in use.
func DelayCollection() {
	if tuned() {
		return
	}
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(spareHeap)
	first := new([16]byte)
	runtime.SetFinalizer(first, func(*[16]byte) {
		if !stays.Load() {
			collectAt(30)
		}
	})
}

// Stay is for a process that waits for work, whose memory Release returns: it collects garbage as Go does unless told otherwise. To let a heap
// grow to spareHeap between two builds would take more memory, and to collect at a third more half as much time again.
func Stay() {
	stays.Store(true)
	if !tuned() {
		collectAt(100)
	}
}

func collectAt(percent int) {
	debug.SetGCPercent(percent)
	debug.SetMemoryLimit(math.MaxInt64)
}

// tuned says if the user has chosen when to collect.
func tuned() bool { return os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" }
