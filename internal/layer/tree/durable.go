package tree

import (
	"encoding/hex"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/micabuild/mica/internal/erofs"
)

// After a power cut the files of a directory are too short where their contents were not on disk yet, which a look at their sizes
// shows. The sizes in an image may be on disk before the contents are. Therefore the label of an image is the boot in which it was
// made, until it is certain to be on disk.

// writebackTime is more than how long Linux keeps what is written from the disk, by default (vm.dirty_expire_centisecs).
const writebackTime = time.Minute

// bootID is the first 120 bits of the kernel's boot id, zeros where it is unknown.
var bootID = sync.OnceValue(func() (id erofs.Label) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	if b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", "")); err == nil {
		copy(id[:], b)
	}
	return id
})

// durable reports whether the contents of an image are certain to be on disk, or to get there while this boot lasts. mark records that
// they are, once they are known to be good.
func (t *image) durable() (ok bool, mark func()) {
	done := func() { _ = t.fs.MarkDurable() } // if that fails, the image is looked at again
	switch t.fs.Label() {
	case erofs.Label{}:
		return true, func() {}
	case bootID():
		if time.Since(t.fs.ModTime()) < writebackTime {
			return true, func() {}
		}
		return true, done
	}
	return false, done
}
