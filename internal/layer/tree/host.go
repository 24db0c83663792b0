// Package tree makes, reads and verifies the trees of layers: a layer unpacked, for overlayfs to mount. A tree is a directory, or an
// image: one file that is an EROFS filesystem. In both, whiteouts are character devices 0:0 and opaque directories have an
// attribute of overlayfs.
package tree

import (
	"os"
	"sync"

	"github.com/micabuild/mica/internal/userns"
)

// Host is what the kernel lets this process do with trees.
type Host struct {
	images func() bool
	nested func() bool
	owners Owners // nil where files have owners of their own

	mu    sync.Mutex
	notes map[string]bool
}

// NewHost returns the host. images reports whether EROFS images can be mounted in the store; it is called more than once.
func NewHost(images func() bool) *Host {
	return &Host{
		images: images,
		nested: sync.OnceValue(func() bool { return os.Geteuid() != 0 || userns.Current().Nested() }),
		notes:  map[string]bool{},
	}
}

// Nested reports whether the process is not the host's root: it is in a user namespace, or an ordinary user who enters none. Overlayfs is then
// mounted with userxattr, and devices cannot be made.
func (h *Host) Nested() bool { return h.nested() }

// OverlayXattr is the name of one of overlayfs's own attributes (Documentation/filesystems/overlayfs.rst, "userxattr").
func (h *Host) OverlayXattr(name string) string {
	if h.Nested() {
		return "user.overlay." + name
	}
	return "trusted.overlay." + name
}

// Notes returns, each once, what trees cannot represent on this host. Tables of contents are not affected.
func (h *Host) Notes() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	notes := make([]string, 0, len(h.notes))
	for note := range h.notes {
		notes = append(notes, note)
	}
	return notes
}

func (h *Host) note(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes[text] = true
}
