package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/tarstream"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// Tree returns the path of the layer's tree, a folder or a file to be mounted (see overlay.Options), unpacking the layer first if
// need be. One process unpacks, others wait for it; whoever finds the tree there does not wait at all.
func (l *Layers) Tree(ctx context.Context, id digest.Digest) (string, error) {
	if _, err := l.summary(id); err != nil && !errors.Is(err, toc.ErrDamaged) {
		return "", err
	}
	if path := l.mountable(id); path != "" {
		if l.soundTree(ctx, id) == nil {
			return path, nil
		}
	} else if _, err := l.TOC(ctx, id); err != nil { // one that is damaged is made again under the lock that is taken here
		return "", err
	}
	lock, err := l.lock(ctx, id)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }()
	if l.unpacked(id) {
		err := l.soundTree(ctx, id)
		if path := l.mountable(id); err == nil && path != "" {
			return path, nil
		}
		if errors.Is(err, store.ErrDamaged) {
			err = l.replaceable(id, err)
		}
		if err != nil {
			return "", err
		}
	}
	return l.makeTree(ctx, id)
}

// replaceable sets a damaged tree aside. It returns damage where there is nothing to make the tree from.
func (l *Layers) replaceable(id digest.Digest, damage error) error {
	if err := l.setAside(id); err != nil {
		return fail(id, err)
	}
	if packs, err := l.packs(id); err != nil || len(packs) == 0 {
		return fmt.Errorf("%w; build or load the image again", damage)
	}
	return nil
}

// mountable returns the path of a tree that can be mounted here, "" for none: another kernel may have run when it was made.
func (l *Layers) mountable(id digest.Digest) string {
	path := l.treePath(id)
	if filepath.Base(path) == treeErofs && !l.mountsErofs() {
		return ""
	}
	return path
}

// makeTree unpacks a layer. The caller holds its lock.
func (l *Layers) makeTree(ctx context.Context, id digest.Digest) (string, error) {
	temp, err := l.store.TempDir("unpack")
	if err != nil {
		return "", err
	}
	defer func() { _ = temp.Remove() }()
	made, err := l.unpack(ctx, id, temp.Path)
	if err != nil {
		if errors.Is(err, store.ErrDamaged) {
			return "", fmt.Errorf("unpack %w; pull or load the image again", errors.Join(err, l.dropDamaged(id)))
		}
		return "", fmt.Errorf("unpack %w", err)
	}
	path := l.path(id, filepath.Base(made))
	if err := os.Rename(made, path); err != nil {
		return "", fail(id, err)
	}
	l.sound.Store(id, true)
	return path, nil
}

// dropDamaged removes the blobs of a layer that are not what their names say, so that they can be fetched again. Where there
// are none, what could not be made another tree of is a tree.
func (l *Layers) dropDamaged(id digest.Digest) error {
	defer l.lost.Add(1)
	packs, err := l.packs(id)
	if err != nil {
		return err
	}
	if len(packs) == 0 && l.unpacked(id) {
		return l.setAside(id)
	}
	for _, p := range packs {
		r, err := l.store.VerifiedBlob(p.Digest)
		if err != nil {
			continue
		}
		_, err = io.Copy(io.Discard, r)
		_ = r.Close()
		if errors.Is(err, store.ErrDamaged) {
			if err := l.store.RemoveBlob(p.Digest); err != nil {
				return err
			}
		}
	}
	return nil
}

// setAside takes a damaged tree out of use: it can be made again now, from a pack or by building again. It goes with the
// layer, and until then whoever wants to can look at it.
func (l *Layers) setAside(id digest.Digest) error {
	defer l.lost.Add(1)
	aside := l.path(id, damagedDir)
	if _, err := os.Lstat(aside); err == nil {
		if _, err := l.store.RemoveTree(aside); err != nil {
			return err
		}
	}
	l.opened.Delete(id)
	if err := os.Rename(l.treePath(id), aside); err != nil {
		return err
	}
	// Where there are two, which one was made of the other, nobody knows any more.
	if err := os.Remove(l.path(id, treeErofs)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Trees is Tree for a chain, bottom first, unpacking in parallel.
func (l *Layers) Trees(ctx context.Context, chain []digest.Digest) ([]string, error) {
	paths := make([]string, len(chain))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1)
	for i, id := range chain {
		g.Go(func() (err error) {
			defer crash.Recover(&err)
			paths[i], err = l.Tree(ctx, id)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return paths, nil
}

// unpack makes the layer's tree in a folder, and verifies the tar that it comes from. The table of contents says what the
// tree holds and where in the tar each content stands, so that nothing is decided while unpacking. It returns the tree's path.
func (l *Layers) unpack(ctx context.Context, id digest.Digest, in string) (path string, err error) {
	root, err := l.indexOf(ctx, id)
	if err != nil {
		return "", err
	}
	plan := index.NewPlan(root)
	packed, err := l.OpenTar(ctx, id)
	if err != nil {
		return "", err
	}
	defer func() { _ = packed.Close() }()
	tree, err := l.newTree(in)
	if err != nil {
		return "", fail(id, err)
	}
	defer tree.close()
	if err := makeDirs(tree, plan.Dirs, nil); err != nil {
		return "", fail(id, err)
	}
	if err := extract(ctx, tree, packed, plan.Files); err != nil {
		if errors.Is(err, store.ErrDamaged) {
			return "", err // names the layer already
		}
		return "", fail(id, err)
	}
	if err := tree.finish(plan.Rest, plan.Dirs); err != nil {
		return "", fail(id, err)
	}
	return tree.path(), nil
}

// piece is a small file and its content.
type piece struct {
	entry   *view.Entry
	content []byte
}

// extract reads the tar to its end and makes the files. Small ones are passed on in batches, to be made in parallel.
func extract(ctx context.Context, t treeMaker, r io.Reader, files []*index.Node) error {
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan []piece, 2)
	for range runtime.GOMAXPROCS(0) {
		g.Go(crash.Guard(func() error { return makeFiles(ctx, t, batches) }))
	}
	g.Go(crash.Guard(func() error {
		defer close(batches)
		x := &extraction{files: t.files(), in: tarstream.CountingReader{R: r}, batches: batches}
		defer x.files.close()
		return x.run(ctx, files)
	}))
	return g.Wait()
}

func makeFiles(ctx context.Context, t treeMaker, batches <-chan []piece) error {
	files := t.files()
	defer files.close()
	for batch := range batches {
		for _, p := range batch {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := writeFile(files, p.entry, p.content); err != nil {
				return err
			}
		}
	}
	return nil
}

// extraction cuts contents out of a tar stream.
type extraction struct {
	files   fileMaker
	in      tarstream.CountingReader
	batches chan<- []piece
	batch   []piece
	data    []byte // of the batch
}

func (x *extraction) run(ctx context.Context, files []*index.Node) error {
	for _, n := range files {
		var err error
		switch e := n.Entry; {
		case n.Place.Sparse:
			err = x.sparse(ctx, n)
		case e.Size >= largeFile:
			err = x.large(ctx, n)
		default:
			err = x.small(ctx, n)
		}
		if err != nil {
			return err
		}
	}
	if err := x.flush(ctx); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, &x.in)
	return err
}

// seek reads up to where a content stands.
func (x *extraction) seek(offset int64) error {
	if offset < x.in.N {
		return fmt.Errorf("%w: contents overlap", toc.ErrDamaged)
	}
	_, err := io.CopyN(io.Discard, &x.in, offset-x.in.N)
	return x.early(err)
}

// early explains an end of the tar before the end that the table of contents promises. The tar does not match the
// layer's identity then, which its reader has had no chance to say.
func (x *extraction) early(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: its tar ends too early", toc.ErrDamaged)
	}
	return err
}

func (x *extraction) small(ctx context.Context, n *index.Node) error {
	size := int(n.Entry.Size)
	full := len(x.data)+size > cap(x.data)
	if full || len(x.batch) >= batchFiles {
		if err := x.flush(ctx); err != nil {
			return err
		}
	}
	if full {
		x.data = make([]byte, 0, max(size, batchSize/2))
	}
	start := len(x.data)
	x.data = x.data[:start+size]
	content := x.data[start:]
	if size > 0 {
		if err := x.seek(n.Place.Offset); err != nil {
			return err
		}
		if _, err := io.ReadFull(&x.in, content); err != nil {
			return x.early(err)
		}
	}
	x.batch = append(x.batch, piece{n.Entry, content})
	return nil
}

func (x *extraction) flush(ctx context.Context) error {
	if len(x.batch) == 0 {
		return nil
	}
	select {
	case x.batches <- x.batch:
		x.batch = make([]piece, 0, batchFiles)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *extraction) large(ctx context.Context, n *index.Node) error {
	if err := x.seek(n.Place.Offset); err != nil {
		return err
	}
	f, err := x.files.create(n.Entry)
	if err != nil {
		return err
	}
	return closed(f, copyExactly(ctx, f, &x.in, n.Entry))
}

// sparse reads an entry from its header on, since the content is not there as it is.
func (x *extraction) sparse(ctx context.Context, n *index.Node) error {
	if err := x.seek(n.Place.Offset); err != nil {
		return err
	}
	content, err := tarstream.OpenSparse(&x.in)
	if err != nil {
		return x.early(err)
	}
	f, err := x.files.create(n.Entry)
	if err != nil {
		return err
	}
	return closed(f, copyExactly(ctx, f, content, n.Entry))
}
