package layer

import (
	"io"
	"path/filepath"

	"github.com/micabuild/mica/internal/view"
)

// treeMaker makes a layer's tree, in three steps: all directories, then the regular files (in parallel), then everything
// else and what directories look like.
type treeMaker interface {
	// path is the file or folder that is made.
	path() string
	// makeDirs makes directories, given parents first, without those that are there.
	makeDirs(dirs []*view.Entry, there map[string]bool) error
	// hand returns what one goroutine makes regular files with. The caller closes it.
	hand() treeHand
	// finish makes what is neither directory nor regular file of entries, then completes the directories, the root among
	// them. Links come after what they name.
	finish(entries, dirs []*view.Entry) error
	close()
}

// treeHand makes directories and regular files, whose directories are there.
type treeHand interface {
	makeDir(name string) error
	writeFile(e *view.Entry, content []byte) error
	create(e *view.Entry) (treeFile, error)
	close()
}

// treeFile is a regular file being written. close sets its metadata, too.
type treeFile interface {
	io.Writer
	// clone makes it share the blocks of the file that fd reads from its start, on filesystems that can (ioctl_ficlonerange(2):
	// XFS, btrfs), and reports whether it has. What is written then only says what is there.
	clone(fd uintptr) bool
	close() error
}

// newTree begins a tree in a folder: one file where such can be mounted, which is written and removed in a fraction of the
// time, else a folder.
func (l *Layers) newTree(in string) (treeMaker, error) {
	if l.mountsImages() {
		return l.newImageMaker(filepath.Join(in, treeImage))
	}
	return l.newFolderMaker(filepath.Join(in, treeDir))
}

// zeroHole is what becomes a hole where it is written at once.
var zeroHole [64 << 10]byte

func isHole(p []byte) bool { return len(p) == len(zeroHole) && string(p) == string(zeroHole[:]) }
