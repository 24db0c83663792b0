package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/store"
)

// All returns the DiffIDs of the layers in the store.
func (l *Layers) All() ([]digest.Digest, error) {
	list, err := os.ReadDir(l.store.Path("layers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	ids := make([]digest.Digest, 0, len(list))
	for _, item := range list {
		if id := digest.NewDigestFromEncoded(digest.SHA256, item.Name()); validID(id) == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Discard removes a layer's directory from the store, without its blobs. The caller has taken the layer.
func (l *Layers) Discard(w *store.Sweep, id digest.Digest) error {
	l.summaries.Delete(id)
	l.digested.Delete(id)
	if err := w.Discard(l.path(id)); err != nil {
		return fail(id, err)
	}
	l.chains.clear()
	return nil
}

// ForgetFlattened removes the notes of which chains were joined to which layers: some of the layers may have been discarded. Layers
// that another process joins in the meantime are joined again the next time.
func (l *Layers) ForgetFlattened() error {
	notes, err := os.ReadDir(l.flatDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget joined layers: %w", err)
	}
	var errs []error
	for _, n := range notes {
		if err := os.Remove(filepath.Join(l.flatDir(), n.Name())); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// DiskUsage returns the disk space, in bytes, that a layer's table of contents and tree take, without its blobs. A file that
// several trees have is shared among them.
func (l *Layers) DiskUsage(id digest.Digest) (int64, error) {
	if err := validID(id); err != nil {
		return 0, err
	}
	var total int64
	err := filepath.WalkDir(l.path(id), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		size := st.Blocks * 512
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			size /= max(int64(st.Nlink), 1)
		}
		total += size
		return nil
	})
	if err != nil {
		return 0, l.tocError(id, err)
	}
	return total, nil
}
