package cli

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
)

// spareHeap is how much memory a command may take before anything is collected.
const spareHeap = 64 << 20

// delayCollection keeps commands that are soon over from collecting garbage, which a small heap makes Go do often: most
// end before they have taken spareHeap. From the first collection on memory is kept to a third more than what is in use.
func delayCollection() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(spareHeap)
	first := new([16]byte)
	runtime.SetFinalizer(first, func(*[16]byte) {
		debug.SetGCPercent(30)
		debug.SetMemoryLimit(math.MaxInt64)
	})
}
