package convert

import (
	"context"
	"io"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/pipe"
	"github.com/micabuild/mica/internal/view"
)

// treeStream makes a layer's tree while its tar is read for the first time, when what follows is unknown. Only
// regular files are made on the way, and the directories that they are in, so that no name can lead astray. The rest is
// made at the end. A tar that does not fit (a name twice, names through symlinks, sparse files) is given up:
// it is unpacked by its table of contents later, like a layer of the store.
type treeStream struct {
	whole bool // finish has made all of it

	tree   tree.Writer
	files  *tree.Batcher
	small  []byte           // the rest of the content of the small file that was created last
	large  tree.File        // nil when none is being written
	ahead  *pipe.Writer     // of large
	made   map[string]bool  // directories
	placed map[string]int64 // the offsets in the tar of the contents of files
	off    bool
}

func newTreeStream(ctx context.Context, w tree.Writer) *treeStream {
	return &treeStream{tree: w, files: tree.NewBatcher(ctx, w), made: map[string]bool{".": true}, placed: map[string]int64{}}
}

// create begins a regular file. end ends it.
func (s *treeStream) create(x *index.Builder, e *view.Entry, at toc.Place) (io.Writer, error) {
	if s.off || at.Sparse || !x.IsNew(e.Path) {
		return io.Discard, s.giveUp()
	}
	dir, _ := view.Split(e.Path)
	if s.inFile(dir) {
		return io.Discard, s.giveUp()
	}
	if err := s.makeDir(dir); err != nil {
		return nil, err
	}
	s.placed[e.Path] = at.Offset
	if e.Size < tree.LargeFile {
		var err error
		s.small, err = s.files.Small(e)
		return s, err
	}
	f, err := s.files.Large(e)
	if err != nil {
		return nil, err
	}
	// Written beside the hashing: either keeps a processor busy.
	s.large, s.ahead = f, pipe.NewWriter(f)
	return s.ahead, nil
}

// Write takes content of the small file that was created last.
func (s *treeStream) Write(p []byte) (int, error) {
	n := copy(s.small, p)
	s.small = s.small[n:]
	if n < len(p) {
		return n, io.ErrShortBuffer
	}
	return n, nil
}

func (s *treeStream) end() error {
	if s.large == nil {
		return nil
	}
	err := tree.CloseFile(s.large, s.ahead.Close())
	s.large, s.ahead = nil, nil
	return err
}

// inFile reports whether a directory, or one above it, was made as a file: the tar has put a directory in its place since.
func (s *treeStream) inFile(dir string) bool {
	for ; !s.made[dir]; dir, _ = view.Split(dir) {
		if _, file := s.placed[dir]; file {
			return true
		}
	}
	return false
}

// makeDir makes a directory and those above it. Their metadata is set at the end.
func (s *treeStream) makeDir(name string) error {
	if s.made[name] {
		return nil
	}
	parent, _ := view.Split(name)
	if err := s.makeDir(parent); err != nil {
		return err
	}
	if err := s.files.MakeDir(name); err != nil {
		return err
	}
	s.made[name] = true
	return nil
}

// giveUp makes no more of the tree.
func (s *treeStream) giveUp() error {
	if s.off {
		return nil
	}
	s.off = true
	return s.files.Discard()
}

func (s *treeStream) close() {
	_ = s.end()
	s.files.Close()
}

// finish makes the rest, if the files that were made are those of the layer, whose index has this root.
func (s *treeStream) finish(root *index.Node) error {
	if s.off {
		return nil
	}
	if err := s.files.Wait(); err != nil {
		return err
	}
	plan := index.NewPlan(root)
	if !s.fits(plan) {
		s.off = true
		return nil
	}
	if err := tree.MakeDirs(s.tree, plan.Dirs, s.made); err != nil {
		return err
	}
	if err := s.tree.Finish(plan.Rest, plan.Dirs); err != nil {
		return err
	}
	s.whole = true
	return nil
}

// fits reports whether the files that were made are those of the plan, neither more nor less.
func (s *treeStream) fits(plan *index.Plan) bool {
	if len(plan.Files) != len(s.placed) {
		return false
	}
	for _, n := range plan.Files {
		if at, ok := s.placed[n.Entry.Path]; !ok || at != n.Place.Offset {
			return false
		}
	}
	planned := 0
	for _, e := range plan.Dirs {
		if s.made[e.Path] {
			planned++
		}
	}
	return planned == len(s.made)
}
