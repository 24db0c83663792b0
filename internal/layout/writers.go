package layout

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/errdef"
)

// folderWriter adds an image to a layout in a folder. One process writes at a time.
type folderWriter struct {
	path    string
	storage *oci.Storage
	lock    *os.File
	index   ocispec.Index
}

func newFolderWriter(ctx context.Context, path string) (*folderWriter, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, plainError(err)
	}
	w := &folderWriter{path: path}
	if err := w.suits(); err != nil {
		return nil, err
	}
	if err := w.takeLock(ctx); err != nil {
		return nil, err
	}
	f, err := openFolder(path)
	if err == nil {
		_, err = readJSON(f, ocispec.ImageIndexFile, &w.index)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		w.storage, err = oci.NewStorage(path)
	}
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// suits refuses a folder that is no layout and has something else in it.
func (w *folderWriter) suits() error {
	if _, err := os.Stat(filepath.Join(w.path, ocispec.ImageLayoutFile)); err == nil {
		return nil
	}
	list, err := os.ReadDir(w.path)
	if err != nil {
		return plainError(err)
	}
	for _, e := range list {
		if !slices.Contains([]string{".lock", ocispec.ImageBlobsDir, "ingest"}, e.Name()) {
			return fmt.Errorf("the folder has something in it (%s) and is no image layout", e.Name())
		}
	}
	return nil
}

func (w *folderWriter) takeLock(ctx context.Context) error {
	lock, err := os.OpenFile(filepath.Join(w.path, ".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return plainError(err)
	}
	w.lock = lock
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return errors.Join(fmt.Errorf("lock: %w", err), lock.Close())
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), lock.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (w *folderWriter) has(d ocispec.Descriptor) bool {
	info, err := os.Stat(filepath.Join(w.path, blobName(d.Digest)))
	return err == nil && info.Size() == d.Size
}

func (w *folderWriter) write(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	err := w.storage.Push(ctx, d, contextReader{ctx, r})
	if errors.Is(err, errdef.ErrAlreadyExists) {
		return nil
	}
	return err
}

func (w *folderWriter) entries() []ocispec.Descriptor { return w.index.Manifests }

func (w *folderWriter) finish(files map[string][]byte) error {
	for name, data := range files {
		if name == ocispec.ImageIndexFile {
			continue
		}
		if err := w.replace(name, data); err != nil {
			return err
		}
	}
	return w.replace(ocispec.ImageIndexFile, files[ocispec.ImageIndexFile])
}

// replace writes a small file so that readers see the old one or the new one.
func (w *folderWriter) replace(name string, data []byte) error {
	path := filepath.Join(w.path, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(w.path, ".tmp-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (w *folderWriter) Close() error {
	_ = os.Remove(filepath.Join(w.path, "ingest")) // oras's folder for what is under way, when it is empty
	return w.lock.Close()
}

// tarWriter writes an archive, beside the file that it is to replace. The same blobs give the same bytes but for their order.
type tarWriter struct {
	path string
	file *os.File

	mu  sync.Mutex // one blob is written at a time
	tar *tar.Writer
}

func newTarWriter(path string) (*tarWriter, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, errors.New("it is a folder")
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-")
	if err != nil {
		return nil, plainError(err)
	}
	return &tarWriter{path: path, file: f, tar: tar.NewWriter(f)}, nil
}

func (w *tarWriter) has(ocispec.Descriptor) bool { return false }

func (w *tarWriter) entries() []ocispec.Descriptor { return nil }

func (w *tarWriter) write(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.header(blobName(d.Digest), d.Size); err != nil {
		return err
	}
	in := verified(io.NopCloser(contextReader{ctx, r}), d)
	_, err := io.CopyBuffer(struct{ io.Writer }{w.tar}, in, make([]byte, 256<<10))
	return err
}

func (w *tarWriter) header(name string, size int64) error {
	return w.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	})
}

func (w *tarWriter) finish(files map[string][]byte) error {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.header(name, int64(len(files[name]))); err != nil {
			return err
		}
		if _, err := w.tar.Write(files[name]); err != nil {
			return err
		}
	}
	if err := errors.Join(w.tar.Close(), w.file.Chmod(0o644), w.file.Close()); err != nil {
		return err
	}
	return os.Rename(w.file.Name(), w.path)
}

func (w *tarWriter) Close() error {
	_ = w.file.Close()
	if err := os.Remove(w.file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
