package layer

import (
	"io"
	"path/filepath"

	"github.com/micabuild/mica/internal/view"
)

// treeMaker makes a layer's tree: first the directories, as far as files need them, then the regular files, in parallel, then
// everything else and what directories look like.
type treeMaker interface {
	// path is the file or folder that is made. Its name tells which: treeErofs or treeDir.
	path() string
	// files returns what one goroutine makes directories and regular files with. The caller closes it.
	files() fileMaker
	// finish makes what is neither directory nor regular file of entries, then completes the directories, the root among
	// them. Links come after what they name.
	finish(entries, dirs []*view.Entry) error
	close()
}

// fileMaker makes directories and regular files, whose directories are there.
type fileMaker interface {
	makeDir(name string) error
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
	if l.mountsErofs() {
		return l.newErofsMaker(filepath.Join(in, treeErofs))
	}
	return l.newFolderMaker(filepath.Join(in, treeDir))
}

// makeDirs makes directories, given parents first, without the root and those that are there.
func makeDirs(t treeMaker, dirs []*view.Entry, there map[string]bool) error {
	files := t.files()
	defer files.close()
	for _, e := range dirs {
		if e.Path == "." || there[e.Path] {
			continue
		}
		if err := files.makeDir(e.Path); err != nil {
			return err
		}
	}
	return nil
}

// writeFile makes a regular file with this content.
func writeFile(files fileMaker, e *view.Entry, content []byte) error {
	f, err := files.create(e)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return closed(f, err)
}

// closed closes a file after all that could be written was, and returns the first thing that went wrong.
func closed(f treeFile, err error) error {
	if closeErr := f.close(); err == nil {
		err = closeErr
	}
	return err
}

// leftOutXattr is what users are told of an extended attribute that a tree lacks.
func leftOutXattr(name string) string {
	return "extended attribute " + name + " cannot be set here and is left out of root filesystems"
}
