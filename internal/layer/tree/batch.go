package tree

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/view"
)

// LargeFile is the size from which on a file is written as it is read. Smaller ones are kept in memory until a batch is full.
const LargeFile = 1 << 20

const (
	batchSize  = 512 << 10 // bytes of small files
	batchFiles = 256
)

// Batcher makes regular files, the small ones in batches, in parallel. It is for one goroutine.
type Batcher struct {
	files   Files
	ctx     context.Context
	workers *errgroup.Group
	batches chan []smallFile // nil when it is closed
	batch   []smallFile
	data    []byte // of the batch
}

type smallFile struct {
	entry   *view.Entry
	content []byte
}

// NewBatcher returns a Batcher of w's files. The caller closes it.
func NewBatcher(ctx context.Context, w Writer) *Batcher {
	b := &Batcher{files: w.Files()}
	b.workers, b.ctx = errgroup.WithContext(ctx)
	batches := make(chan []smallFile, 2)
	b.batches = batches
	for range runtime.GOMAXPROCS(0) {
		b.workers.Go(crash.Guard(func() error { return makeFiles(b.ctx, w, batches) }))
	}
	return b
}

func makeFiles(ctx context.Context, w Writer, batches <-chan []smallFile) error {
	files := w.Files()
	defer files.Close()
	for batch := range batches {
		for _, f := range batch {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := WriteFile(files, f.entry, f.content); err != nil {
				return err
			}
		}
	}
	return nil
}

// Context ends when a file cannot be made.
func (b *Batcher) Context() context.Context { return b.ctx }

// MakeDir makes a directory.
func (b *Batcher) MakeDir(name string) error { return b.files.MakeDir(name) }

// Small makes a file whose content, of e.Size bytes, the caller writes into the slice before it calls another method.
func (b *Batcher) Small(e *view.Entry) ([]byte, error) {
	size := int(e.Size)
	full := len(b.data)+size > cap(b.data)
	if full || len(b.batch) >= batchFiles {
		if err := b.flush(); err != nil {
			return nil, err
		}
	}
	if full {
		b.data = make([]byte, 0, max(size, batchSize))
	}
	start := len(b.data)
	b.data = b.data[:start+size]
	content := b.data[start:]
	b.batch = append(b.batch, smallFile{e, content})
	return content, nil
}

// Large makes a file, which the caller writes and closes.
func (b *Batcher) Large(e *view.Entry) (File, error) { return b.files.Create(e) }

func (b *Batcher) flush() error {
	if len(b.batch) == 0 {
		return nil
	}
	select {
	case b.batches <- b.batch:
		b.batch = make([]smallFile, 0, batchFiles)
		return nil
	case <-b.ctx.Done():
		if err := b.stop(); err != nil {
			return err
		}
		return context.Cause(b.ctx)
	}
}

// stop waits for the files under way.
func (b *Batcher) stop() error {
	if b.batches == nil {
		return nil
	}
	close(b.batches)
	b.batches = nil
	return b.workers.Wait()
}

// Wait returns when all files are made.
func (b *Batcher) Wait() error {
	if err := b.flush(); err != nil {
		return err
	}
	return b.stop()
}

// Discard forgets the files that have not been made, and waits for those under way. No more can be made.
func (b *Batcher) Discard() error {
	b.batch, b.data = nil, nil
	return b.stop()
}

// Close waits for the files under way.
func (b *Batcher) Close() {
	_ = b.Discard()
	b.files.Close()
}
