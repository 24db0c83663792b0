package layer

import (
	"os"

	"github.com/micabuild/mica/internal/erofs"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/userns"
)

// hostRules are what the kernel lets this process do with a tree.
type hostRules struct {
	// userns: in a user namespace overlayfs is mounted with userxattr, and device nodes cannot be made.
	userns bool
}

func readHostRules() hostRules {
	return hostRules{userns: userns.Current().Nested()}
}

// mountsErofs reports whether trees can be files, which depends on the kernel, the store's filesystem and whether the process is
// root. $MICA_TREES chooses: "folders" has all be folders, as they are elsewhere.
func mountsErofs(s *store.Store) bool {
	if os.Getenv("MICA_TREES") == "folders" {
		return false
	}
	temp, err := s.TempDir("probe")
	if err != nil {
		return false
	}
	defer func() { _ = temp.Remove() }()
	return erofs.Mountable(temp.Path)
}

// overlayXattr is the name of one of overlayfs's own attributes (Documentation/filesystems/overlayfs.rst, "userxattr").
func (h hostRules) overlayXattr(name string) string {
	if h.userns {
		return "user.overlay." + name
	}
	return "trusted.overlay." + name
}

// Notes returns, each once, what trees could not represent on this host. Tables of contents always hold the truth.
func (l *Layers) Notes() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	notes := make([]string, 0, len(l.notes))
	for note := range l.notes {
		notes = append(notes, note)
	}
	return notes
}

func (l *Layers) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes[text] = true
}
