package tree

import (
	"io"

	"github.com/micabuild/mica/internal/view"
)

// Writer makes a tree: first directories, as far as files need them, then regular files, in parallel, then
// everything else and the metadata of directories.
type Writer interface {
	// Path is the file or directory that is made.
	Path() string
	// Files returns what one goroutine makes directories and regular files with. The caller closes it.
	Files() Files
	// Finish makes those of entries that are neither directories nor regular files, then completes the directories, of which the root
	// is one. Links come after what they name.
	Finish(entries, dirs []*view.Entry) error
	Close()
}

// Files makes directories and regular files, whose directories exist.
type Files interface {
	MakeDir(name string) error
	Create(e *view.Entry) (File, error)
	Close()
}

// File is a regular file being written. Close sets its metadata, too.
type File interface {
	io.WriteCloser
	// Clone makes it share the blocks of the file that fd reads from its start, on filesystems that can (ioctl_ficlonerange(2):
	// XFS, btrfs), and reports whether it has. What is written after that must be the same content.
	Clone(fd uintptr) bool
}

// MakeDirs makes directories, given parents first, but not the root and those that exist.
func MakeDirs(t Writer, dirs []*view.Entry, exist map[string]bool) error {
	files := t.Files()
	defer files.Close()
	for _, e := range dirs {
		if e.Path == "." || exist[e.Path] {
			continue
		}
		if err := files.MakeDir(e.Path); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile makes a regular file with this content.
func WriteFile(files Files, e *view.Entry, content []byte) error {
	f, err := files.Create(e)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return CloseFile(f, err)
}

// CloseFile closes f, and returns err, the error of writing it, or else that of closing it.
func CloseFile(f File, err error) error {
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// leftOutXattr is the note about an extended attribute that a tree lacks.
func leftOutXattr(name string) string {
	return "extended attribute " + name + " cannot be set here and is left out of root filesystems"
}
