package ocilayout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/flock"
)

// Names of files in a layout's directory that are not part of the layout. Readers ignore them.
const (
	lockName   = ".lock"
	tempPrefix = ".tmp-"
)

// directoryWriter adds to a layout in a directory. A blob appears when it is complete. Other processes may write blobs at the
// same time.
type directoryWriter struct {
	path    string
	scratch bool // files are not synced

	mu    sync.Mutex
	root  *directory // nil until something is written
	temps int
	whole map[digest.Digest]bool // blobs that were verified
}

func newDirectoryWriter(path string, o CreateOptions) (*directoryWriter, error) {
	if !o.Shared {
		if err := checkDirectory(path); err != nil {
			return nil, err
		}
	}
	return &directoryWriter{path: path, scratch: o.Scratch, whole: map[digest.Digest]bool{}}, nil
}

// checkDirectory returns an error if a directory has files and is not a layout, complete or begun.
func checkDirectory(path string) error {
	list, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return reason(err)
	}
	other := ""
	for _, e := range list {
		switch n := e.Name(); {
		case n == ocispec.ImageIndexFile:
			return nil
		case n == ocispec.ImageLayoutFile, n == ocispec.ImageBlobsDir, n == lockName, strings.HasPrefix(n, tempPrefix):
		default:
			other = n
		}
	}
	if other != "" {
		return fmt.Errorf("the directory is not an OCI image layout, and not empty: it has %s", other)
	}
	return nil
}

// directory returns the directory. It makes the directory at the first call.
func (w *directoryWriter) directory() (*directory, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.root != nil {
		return w.root, nil
	}
	if err := os.MkdirAll(w.path, 0o777); err != nil {
		return nil, fmt.Errorf("make the directory: %w", reason(err))
	}
	f, err := openDirectory(w.path)
	if err != nil {
		return nil, err
	}
	if err := f.root.MkdirAll(path.Join(ocispec.ImageBlobsDir, digest.SHA256.String()), 0o777); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make the directory of blobs: %w", reason(err))
	}
	w.root = f
	return f, nil
}

// has reports whether the layout has a blob, which it reads and verifies.
func (w *directoryWriter) has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if w.verified(d.Digest) {
		return true, nil
	}
	if _, err := os.Stat(w.path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	r, err := w.fetch(d)
	if err != nil {
		return false, nil // a push reports the error, if it persists
	}
	defer func() { _ = r.Close() }()
	if _, err := io.Copy(io.Discard, contextReader{ctx, r}); err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		return false, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole[d.Digest] = true
	return true, nil
}

func (w *directoryWriter) verified(d digest.Digest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.whole[d]
}

func (w *directoryWriter) fetch(d ocispec.Descriptor) (io.ReadCloser, error) {
	if _, err := os.Stat(w.path); errors.Is(err, fs.ErrNotExist) {
		return nil, &missingError{"blob " + d.Digest.String()}
	}
	f, err := w.directory()
	if err != nil {
		return nil, err
	}
	return openBlob(f, BlobName(d.Digest), d)
}

// push writes a blob. It replaces a damaged one.
func (w *directoryWriter) push(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	if ok, err := w.has(ctx, d); ok || err != nil {
		return err
	}
	f, err := w.directory()
	if err != nil {
		return err
	}
	if err := w.replace(f, BlobName(d.Digest), r); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole[d.Digest] = true
	return nil
}

// replace writes a file. Readers see the old file, or none, until the new one is complete.
func (w *directoryWriter) replace(f *directory, name string, r io.Reader) error {
	temp, err := w.createTemp(f)
	if err != nil {
		return fmt.Errorf("make a temporary file: %w", reason(err))
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{temp}, r, make([]byte, 256<<10))
	if err == nil && !w.scratch {
		err = reason(temp.Sync())
	}
	if closed := temp.Close(); err == nil {
		err = reason(closed)
	}
	tempName := filepath.Base(temp.Name())
	if err == nil {
		if err = f.root.Rename(tempName, name); err == nil {
			return nil
		}
		err = fmt.Errorf("rename to %s: %w", name, reason(err))
	}
	_ = f.root.Remove(tempName)
	return err
}

func (w *directoryWriter) createTemp(f *directory) (*os.File, error) {
	for {
		w.mu.Lock()
		w.temps++
		name := fmt.Sprintf("%s%d-%d", tempPrefix, os.Getpid(), w.temps)
		w.mu.Unlock()
		temp, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) {
			return temp, err
		}
	}
}

// commit changes index.json under a lock, so that concurrent copies do not lose an image.
func (w *directoryWriter) commit(ctx context.Context, files map[string]any, index func(ocispec.Index) ocispec.Index) error {
	f, err := w.directory()
	if err != nil {
		return err
	}
	lock, err := takeLock(ctx, f)
	if err != nil {
		return fmt.Errorf("lock the directory: %w", err)
	}
	defer func() { _ = lock.Close() }()
	var old ocispec.Index
	if _, err := readJSON(f, ocispec.ImageIndexFile, &old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for name, v := range files {
		if err := w.replaceJSON(f, name, v); err != nil {
			return err
		}
	}
	return w.replaceJSON(f, ocispec.ImageIndexFile, index(old))
}

func (w *directoryWriter) replaceJSON(f *directory, name string, v any) error {
	data, err := marshal(name, v)
	if err != nil {
		return err
	}
	if err := w.replace(f, name, bytes.NewReader(data)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// takeLock waits for the directory's lock until ctx ends. The kernel releases the lock when the process dies.
func takeLock(ctx context.Context, f *directory) (*os.File, error) {
	lock, err := f.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, reason(err)
	}
	if err := flock.Wait(ctx, lock, flock.Exclusive); err != nil {
		return nil, err
	}
	return lock, nil
}

func (w *directoryWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.root == nil {
		return nil
	}
	return w.root.Close()
}
