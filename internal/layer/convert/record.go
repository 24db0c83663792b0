// Package convert turns the forms of a layer into each other in one pass: files into a tar and a tree (Recorder), a tar that is not
// trusted into a table of contents and a tree (Parse, Skim), a tar of the store into a tree (Extract).
package convert

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/tarstream"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/pipe"
	"github.com/micabuild/mica/internal/view"
)

const (
	batchSize  = 1 << 20 // bytes of small files read at once
	batchFiles = 256
	copySize   = 256 << 10 // bytes of a large file read at once
)

// Recorder turns files into the canonical tar of a layer, its table of contents, and a tree if asked. Each content is read once.
// Small files are read, digested and written in parallel, some batches ahead of the tar, which is a single stream; a large file is
// streamed when its turn comes. A Recorder is used once.
type Recorder struct {
	entries []*view.Entry // sorted
	open    func(ctx context.Context, i int) (io.ReadCloser, error)
	known   [][sha256.Size]byte // digests of contents that need not be computed: see knownDigest
	tree    tree.Writer         // or nil

	tar   *tarstream.Writer
	table toc.Encoder
	first map[string]int // numbers of the entries that hardlinks name
	free  chan []byte    // buffers of batches
	files tree.Files     // of the stream, if there is a tree
}

// FromTable returns a Recorder of the files of a tree that its table of contents describes.
func FromTable(table *toc.Table, t tree.Tree) *Recorder {
	return &Recorder{entries: table.Entries, open: func(_ context.Context, i int) (io.ReadCloser, error) {
		return t.Open(table.Entries[i].Path)
	}}
}

// FromTree returns a Recorder of the files of a tree.
func FromTree(ctx context.Context, t tree.Tree) (*Recorder, error) {
	entries, err := t.Walk(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := tarstream.CheckEntry(e); err != nil {
			return nil, err
		}
	}
	return FromTable(&toc.Table{Entries: entries}, t), nil
}

// WriteTree makes a tree and returns the DiffID of the equivalent tar.
func (r *Recorder) WriteTree(ctx context.Context, w tree.Writer) (digest.Digest, error) {
	dirs := directories(r.entries)
	if err := tree.MakeDirs(w, dirs, nil); err != nil {
		return "", err
	}
	r.tree = w
	id, err := r.DiffID(ctx)
	if err != nil {
		return "", err
	}
	return id, w.Finish(r.entries, dirs)
}

// DiffID hashes the tar.
func (r *Recorder) DiffID(ctx context.Context) (digest.Digest, error) {
	hash := sha256.New()
	if err := r.WriteTar(ctx, hash); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, hash), nil
}

// Size is the number of bytes of the tar, after it is written.
func (r *Recorder) Size() int64 { return r.tar.Offset() }

// Table returns the file of the table of contents of the layer, after its tar is written.
func (r *Recorder) Table(id digest.Digest) ([]byte, toc.Summary) {
	return r.table.Finish(id, r.Size(), true)
}

// WriteTar writes the tar to w, in a goroutine of its own.
func (r *Recorder) WriteTar(ctx context.Context, w io.Writer) error {
	out := pipe.NewWriter(w)
	err := r.run(ctx, out)
	if closeErr := out.Close(); closeErr != nil {
		return closeErr
	}
	return err
}

// batch is a run of entries: small files, or one large one.
type batch struct {
	from, to int
	size     int64
	data     []byte
	digests  [][sha256.Size]byte
	err      error
	done     chan struct{}
}

// HasContent reports whether content of e is stored: a hardlink has that of another entry.
func HasContent(e *view.Entry) bool { return e.Type == view.TypeRegular && e.Hardlink == "" }

func (r *Recorder) knownDigest(i int) (sum [sha256.Size]byte, ok bool) {
	if r.known == nil {
		return sum, false
	}
	return r.known[i], r.known[i] != sum
}

// run writes the tar to w.
func (r *Recorder) run(ctx context.Context, w io.Writer) error {
	workers := runtime.GOMAXPROCS(0)
	r.tar = tarstream.NewWriter(w)
	r.free = make(chan []byte, 2*workers+2)
	r.first = make(map[string]int)
	for _, e := range r.entries {
		if e.Hardlink != "" {
			r.first[e.Hardlink] = -1
		}
	}
	todo := make(chan *batch, workers)
	ordered := make(chan *batch, workers)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(crash.Guard(func() error {
		defer close(todo)
		defer close(ordered)
		return r.plan(ctx, todo, ordered)
	}))
	for range workers {
		g.Go(crash.Guard(func() error {
			r.work(ctx, todo)
			return nil
		}))
	}
	g.Go(crash.Guard(func() error { return r.stream(ctx, ordered) }))
	return g.Wait()
}

// plan cuts the entries into batches.
func (r *Recorder) plan(ctx context.Context, todo, ordered chan<- *batch) error {
	for from := 0; from < len(r.entries); {
		b := &batch{from: from, done: make(chan struct{})}
		to := from
		for ; to < len(r.entries) && to-from < batchFiles; to++ {
			e := r.entries[to]
			if !HasContent(e) {
				continue
			}
			if to > from && b.size+e.Size > batchSize {
				break
			}
			b.size += e.Size
			if e.Size >= tree.LargeFile {
				to++
				break
			}
		}
		b.to, from = to, to
		for _, c := range []chan<- *batch{todo, ordered} {
			select {
			case c <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// large returns the number of the batch's large file, always its last entry, or b.to if there is none.
func (r *Recorder) large(b *batch) int {
	if last := b.to - 1; HasContent(r.entries[last]) && r.entries[last].Size >= tree.LargeFile {
		return last
	}
	return b.to
}

// work reads and digests small files, and writes them into the tree.
func (r *Recorder) work(ctx context.Context, todo <-chan *batch) {
	var files tree.Files
	if r.tree != nil {
		files = r.tree.Files()
		defer files.Close()
	}
	for b := range todo {
		b.err = r.read(ctx, files, b)
		close(b.done)
	}
}

func (r *Recorder) read(ctx context.Context, files tree.Files, b *batch) error {
	select {
	case b.data = <-r.free:
	default:
	}
	size := b.size
	if large := r.large(b); large < b.to {
		size -= r.entries[large].Size
	}
	if int64(cap(b.data)) < size {
		b.data = make([]byte, 0, max(size, batchSize/4))
	}
	b.data = b.data[:0]
	b.digests = make([][sha256.Size]byte, b.to-b.from)
	for i := b.from; i < r.large(b); i++ {
		e := r.entries[i]
		if !HasContent(e) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		start := len(b.data)
		b.data = b.data[:start+int(e.Size)]
		content := b.data[start:]
		if err := r.readSmall(ctx, i, content); err != nil {
			return err
		}
		if sum, ok := r.knownDigest(i); ok {
			b.digests[i-b.from] = sum
		} else {
			b.digests[i-b.from] = sha256.Sum256(content)
		}
		if files != nil {
			if err := tree.WriteFile(files, e, content); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Recorder) readSmall(ctx context.Context, i int, content []byte) error {
	if len(content) == 0 {
		return nil
	}
	f, err := r.open(ctx, i)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := io.ReadFull(f, content); err != nil {
		return readError(r.entries[i], err)
	}
	sum, known := r.knownDigest(i)
	if known {
		if err := r.ended(i, f); err != nil {
			return err
		}
	}
	if hasChanged(f) && (!known || sha256.Sum256(content) != sum) {
		return changedError(r.entries[i])
	}
	return nil
}

// liveFile is a file of the host, which others may write to while it is read.
type liveFile interface {
	Changed() bool  // since its directory was read: its content must be compared with its digest
	Changing() bool // that, or it probably will be
}

func hasChanged(f io.Reader) bool {
	live, ok := f.(liveFile)
	return ok && live.Changed()
}

func isChanging(f io.Reader) bool {
	live, ok := f.(liveFile)
	return ok && live.Changing()
}

// ended reads the end of a file: there its View reports whether the file has changed since it was opened.
func (r *Recorder) ended(i int, f io.Reader) error {
	switch n, err := f.Read(make([]byte, 1)); {
	case n > 0:
		return changedError(r.entries[i])
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}

// readError explains a file that turned out to be shorter than its entry says.
func readError(e *view.Entry, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return changedError(e)
	}
	return fmt.Errorf("read %q: %w", e.Path, err)
}

func changedError(e *view.Entry) error {
	return fmt.Errorf("%q changed while it was being read", e.Path)
}

// stream writes the batches to the tar, in their order.
func (r *Recorder) stream(ctx context.Context, ordered <-chan *batch) error {
	if r.tree != nil {
		r.files = r.tree.Files()
		defer r.files.Close()
	}
	for b := range ordered {
		select {
		case <-b.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if b.err != nil {
			return b.err
		}
		if err := r.streamBatch(ctx, b); err != nil {
			return err
		}
		select {
		case r.free <- b.data:
		default:
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.tar.End()
}

func (r *Recorder) streamBatch(ctx context.Context, b *batch) error {
	rest, large := b.data, r.large(b)
	for i := b.from; i < b.to; i++ {
		e := r.entries[i]
		if err := r.tar.Header(e); err != nil {
			return err
		}
		at := toc.Place{Offset: r.tar.Offset()}
		var sum [sha256.Size]byte
		if HasContent(e) {
			var err error
			if i == large {
				sum, err = r.streamLarge(ctx, i)
			} else {
				sum = b.digests[i-b.from]
				_, err = r.tar.Write(rest[:e.Size])
				rest = rest[e.Size:]
			}
			if err == nil {
				err = r.tar.Pad()
			}
			if err != nil {
				return err
			}
		}
		if err := r.record(i, sum, at); err != nil {
			return err
		}
	}
	return nil
}

// record adds entry i to the table of contents.
func (r *Recorder) record(i int, sum [sha256.Size]byte, at toc.Place) error {
	e := r.entries[i]
	if HasContent(e) {
		d := digest.NewDigestFromBytes(digest.SHA256, sum[:])
		// Whoever knows a digest may have keyed a cache by it: what is recorded must be the same.
		if e.Digest != "" && e.Digest != d {
			return changedError(e)
		}
		e = e.Clone()
		e.Digest = d
	}
	if _, named := r.first[e.Path]; named {
		r.first[e.Path] = i
	}
	r.table.Add(e, at, r.first[e.Hardlink])
	return nil
}

// streamLarge passes one file on to the tar, its digest, and the tree, each of which works on its own.
func (r *Recorder) streamLarge(ctx context.Context, i int) (sum [sha256.Size]byte, err error) {
	e := r.entries[i]
	f, err := r.open(ctx, i)
	if err != nil {
		return sum, err
	}
	defer func() { _ = f.Close() }()
	to := []io.Writer{r.tar}
	hash := sha256.New()
	hashing := pipe.NewWriter(hash)
	defer func() { _ = hashing.Close() }()
	sum, known := r.knownDigest(i)
	unsure := isChanging(f)
	if !known || unsure {
		to = append(to, hashing)
	}
	cloned := false
	if r.files != nil {
		out, createErr := r.files.Create(e)
		if createErr != nil {
			return sum, createErr
		}
		defer func() {
			if closeErr := out.Close(); err == nil {
				err = closeErr
			}
		}()
		if src, ok := f.(interface{ Fd() uintptr }); ok && !unsure {
			cloned = out.Clone(src.Fd())
		}
		to = append(to, out)
	}
	if err := copyExactly(ctx, io.MultiWriter(to...), f, e); err != nil {
		return sum, err
	}
	if known || cloned {
		if err := r.ended(i, f); err != nil {
			return sum, err
		}
	}
	if err := hashing.Close(); err != nil {
		return sum, err
	}
	read := [sha256.Size]byte(hash.Sum(nil))
	switch {
	case hasChanged(f) && (!known || !unsure || read != sum):
		return sum, changedError(e)
	case known:
		return sum, nil
	}
	return read, nil
}

// copyExactly copies the e.Size bytes that the header announced.
func copyExactly(ctx context.Context, to io.Writer, from io.Reader, e *view.Entry) error {
	buf := make([]byte, copySize)
	for left := e.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := from.Read(buf[:min(left, copySize)])
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
		if err != nil && left > 0 {
			return readError(e, err)
		}
	}
	return nil
}

// directories returns the directories of sorted entries, with those that the names of others imply and the root.
func directories(entries []*view.Entry) []*view.Entry {
	root := index.ImpliedDir(".")
	if i := slices.IndexFunc(entries, func(e *view.Entry) bool { return e.Path == "." }); i >= 0 {
		root = entries[i] // not always the first: some names sort before it
	}
	list := append(make([]*view.Entry, 0, 64), root)
	have := map[string]bool{".": true}
	var imply func(dir string)
	imply = func(dir string) {
		if have[dir] {
			return
		}
		parent, _ := view.Split(dir)
		imply(parent)
		have[dir] = true
		list = append(list, index.ImpliedDir(dir))
	}
	for _, e := range entries {
		if e.Path == "." {
			continue
		}
		parent, _ := view.Split(e.Path)
		imply(parent)
		if e.IsDir() {
			have[e.Path] = true
			list = append(list, e)
		}
	}
	return list
}
