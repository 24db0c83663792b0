package layer

import (
	"context"
	"errors"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/pipe"
	"github.com/micabuild/mica/internal/view"
)

// treeStream makes a layer's tree while its tar is read for the first time, when nobody knows yet what is to come. Only
// regular files are made on the way, and the directories that they are in, so that no name can lead astray; the rest is
// made when the whole is known. A tar that does not fit (a name twice, names through symlinks, sparse files) is given up:
// it is unpacked by its table of contents later, as if it had come from the store.
type treeStream struct {
	whole bool // finish has made all of it

	tree    treeMaker
	files   fileMaker
	ctx     context.Context
	workers *errgroup.Group
	batches chan []piece
	batch   []piece
	data    []byte
	large   treeFile
	ahead   *pipe.Writer     // of large
	made    map[string]bool  // directories
	placed  map[string]int64 // where in the tar each file's content stands
	off     bool
}

// newTreeStream begins a tree in a folder.
func (l *Layers) newTreeStream(ctx context.Context, in string) (*treeStream, error) {
	tree, err := l.newTree(in)
	if err != nil {
		return nil, err
	}
	s := &treeStream{tree: tree, files: tree.files(), made: map[string]bool{".": true}, placed: map[string]int64{}}
	s.workers, s.ctx = errgroup.WithContext(ctx)
	batches := make(chan []piece, 2)
	s.batches = batches // nil when it is closed
	for range runtime.GOMAXPROCS(0) {
		s.workers.Go(crash.Guard(func() error { return makeFiles(s.ctx, tree, batches) }))
	}
	return s, nil
}

// create begins a regular file; end ends it.
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
	if e.Size >= largeFile {
		f, err := s.files.create(e)
		if err != nil {
			return nil, err
		}
		// Written beside the hashing: either keeps a processor busy.
		s.large, s.ahead = f, pipe.NewWriter(f)
		return s.ahead, nil
	}
	size := int(e.Size)
	full := len(s.data)+size > cap(s.data)
	if full || len(s.batch) >= batchFiles {
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	if full {
		s.data = make([]byte, 0, max(size, batchSize/2))
	}
	start := len(s.data)
	s.data = s.data[:start+size]
	s.batch = append(s.batch, piece{e, s.data[start : start : start+size]})
	return s, nil
}

// Write takes content of the small file that was created last.
func (s *treeStream) Write(p []byte) (int, error) {
	last := &s.batch[len(s.batch)-1]
	last.content = append(last.content, p...)
	return len(p), nil
}

func (s *treeStream) end() error {
	if s.large == nil {
		return nil
	}
	err := closed(s.large, s.ahead.Close())
	s.large, s.ahead = nil, nil
	return err
}

func (s *treeStream) flush() error {
	if len(s.batch) == 0 {
		return nil
	}
	select {
	case s.batches <- s.batch:
		s.batch = make([]piece, 0, batchFiles)
		return nil
	case <-s.ctx.Done():
		return errors.Join(s.stop(), context.Cause(s.ctx))
	}
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

// makeDir makes a directory and those above it. What they look like is set in the end.
func (s *treeStream) makeDir(name string) error {
	if s.made[name] {
		return nil
	}
	parent, _ := view.Split(name)
	if err := s.makeDir(parent); err != nil {
		return err
	}
	if err := s.files.makeDir(name); err != nil {
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
	s.batch, s.data = nil, nil
	return s.stop()
}

// stop waits for the files under way.
func (s *treeStream) stop() error {
	if s.batches == nil {
		return nil
	}
	close(s.batches)
	s.batches = nil
	return s.workers.Wait()
}

func (s *treeStream) close() {
	_ = s.end()
	_ = s.stop()
	s.files.close()
	s.tree.close()
}

// finish makes the rest, if what was made is what the layer means: root is its index.
func (s *treeStream) finish(root *index.Node) error {
	if s.off {
		return nil
	}
	if err := errors.Join(s.flush(), s.stop()); err != nil {
		return err
	}
	plan := index.NewPlan(root)
	if !s.fits(plan) {
		s.off = true
		return nil
	}
	if err := makeDirs(s.tree, plan.Dirs, s.made); err != nil {
		return err
	}
	if err := s.tree.finish(plan.Rest, plan.Dirs); err != nil {
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
