package ocilayout

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// archiveWriter writes a layout as a tar, to a temporary file beside the final one. Blobs are in the order of the pushes. The
// other files depend only on the blobs.
type archiveWriter struct {
	path string
	file *os.File

	// turn is a lock of the tar, which a context can stop waiting for.
	turn chan struct{}
	tar  *tar.Writer
	over error // of further writes; nil if they are possible

	mu    sync.Mutex
	blobs map[string]section
}

func newArchiveWriter(path string) (*archiveWriter, error) {
	path, err := target(path)
	if err != nil {
		return nil, err
	}
	f, err := createBeside(path)
	if err != nil {
		return nil, err
	}
	return &archiveWriter{path: path, file: f, turn: make(chan struct{}, 1), tar: tar.NewWriter(f), blobs: map[string]section{}}, nil
}

// target returns the path of the file to replace, with symlinks resolved. A device or directory is an error.
func target(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err != nil {
		return "", reason(err)
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("it exists and is not a file")
	}
	return filepath.EvalSymlinks(path)
}

// createBeside creates a temporary file in the directory of path, with the default permissions of new files.
func createBeside(path string) (*os.File, error) {
	for n := 0; ; n++ {
		name := fmt.Sprintf(".%s.%d-%d.tmp", filepath.Base(path), os.Getpid(), n)
		f, err := os.OpenFile(filepath.Join(filepath.Dir(path), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) && n < maxMembers {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("write to directory %s: %w", filepath.Dir(path), reason(err))
		}
		return f, nil
	}
}

// begin waits for the caller's turn. end ends the turn.
func (w *archiveWriter) begin(ctx context.Context) error {
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if w.over != nil {
		w.end()
		return w.over
	}
	return nil
}

func (w *archiveWriter) end() { <-w.turn }

func (w *archiveWriter) member(name string) (section, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.blobs[name]
	return m, ok
}

func (w *archiveWriter) has(_ context.Context, d ocispec.Descriptor) (bool, error) {
	_, ok := w.member(BlobName(d.Digest))
	return ok, nil
}

// fetch reads a blob that was pushed from the file.
func (w *archiveWriter) fetch(d ocispec.Descriptor) (io.ReadCloser, error) {
	return openBlob(w, BlobName(d.Digest), d)
}

func (w *archiveWriter) open(name string) (io.ReadCloser, int64, error) {
	m, ok := w.member(name)
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(w.file, m.offset, m.size)), m.size, nil
}

func (w *archiveWriter) push(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	defer w.end()
	name := BlobName(d.Digest)
	if _, ok := w.member(name); ok {
		return nil
	}
	return w.write(name, d.Size, r)
}

// write adds a member. After an error the archive is as before, and the blob can be pushed again.
func (w *archiveWriter) write(name string, size int64, r io.Reader) error {
	if err := w.tar.Flush(); err != nil {
		w.over = reason(err)
		return w.over
	}
	start, err := w.file.Seek(0, io.SeekCurrent)
	if err != nil {
		w.over = reason(err)
		return w.over
	}
	offset, err := w.add(name, size, r)
	if err != nil {
		w.undo(start)
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blobs[name] = section{offset, size}
	return nil
}

func (w *archiveWriter) add(name string, size int64, r io.Reader) (offset int64, err error) {
	if err = w.tar.WriteHeader(header(name, size)); err != nil {
		return 0, reason(err)
	}
	if offset, err = w.file.Seek(0, io.SeekCurrent); err != nil {
		return 0, reason(err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{w.tar}, r, make([]byte, 256<<10))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return offset, err
}

// undo removes a member that was not completely written.
func (w *archiveWriter) undo(start int64) {
	if err := w.file.Truncate(start); err != nil {
		w.over = reason(err)
		return
	}
	if _, err := w.file.Seek(start, io.SeekStart); err != nil {
		w.over = reason(err)
		return
	}
	w.tar = tar.NewWriter(w.file)
}

func (w *archiveWriter) commit(ctx context.Context, files map[string]any, index func(ocispec.Index) ocispec.Index) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	defer w.end()
	small := map[string]any{ocispec.ImageIndexFile: index(ocispec.Index{})}
	maps.Copy(small, files)
	for _, name := range slices.Sorted(maps.Keys(small)) {
		data, err := marshal(name, small[name])
		if err != nil {
			return err
		}
		if err := w.write(name, int64(len(data)), bytes.NewReader(data)); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	w.over = errors.New("the archive is finished")
	if err := w.tar.Close(); err != nil {
		return reason(err)
	}
	if err := w.file.Sync(); err != nil {
		return reason(err)
	}
	if err := os.Rename(w.file.Name(), w.path); err != nil {
		return fmt.Errorf("rename: %w", reason(err))
	}
	return nil
}

func (w *archiveWriter) Close() error {
	w.turn <- struct{}{} // wait for a writer
	defer w.end()
	w.over = fs.ErrClosed
	_ = os.Remove(w.file.Name()) // Commit has renamed it if it succeeded
	if err := w.file.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}
