package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Keep removes every layer that is not in use and returns the bytes freed, without those of blobs. The caller holds
// store.Sweep.
func (l *Layers) Keep(used map[digest.Digest]bool) (int64, error) {
	all, err := l.All()
	if err != nil {
		return 0, err
	}
	var freed int64
	errs := []error{os.RemoveAll(l.flatDir())} // of layers that go now
	for _, id := range all {
		if used[id] {
			continue
		}
		n, err := l.Remove(id)
		freed += n
		errs = append(errs, err)
	}
	return freed, errors.Join(errs...)
}

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

// Remove removes a layer's directory and returns the bytes freed, without those of blobs. The caller holds store.Sweep.
func (l *Layers) Remove(id digest.Digest) (int64, error) {
	if err := validID(id); err != nil {
		return 0, err
	}
	l.summaries.Delete(id)
	l.digested.Delete(id)
	freed, err := l.store.RemoveTree(l.path(id))
	if err != nil {
		return freed, fail(id, err)
	}
	l.chains.clear()
	return freed, nil
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
