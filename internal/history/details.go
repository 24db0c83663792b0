package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// Under builds/, what several builds share: the ingredients of steps by their keys, and the files that steps read by the digest of
// the list. They are written when a step runs, so that a build whose steps are all cached writes its record alone.
const (
	stepsDir = "steps"
	filesDir = "files"
)

// maxFiles bounds a list of files when it is read, in bytes.
const maxFiles = 512 << 20

// SaveIngredients keeps the ingredients of a key, which list returns, unless they are kept.
func (b *Builds) SaveIngredients(key digest.Digest, list func() []Ingredient) error {
	return b.save(stepsDir, key, func() []byte {
		data, _ := json.Marshal(list()) // strings and numbers alone
		return data
	})
}

// Ingredients returns the ingredients of a key; fs.ErrNotExist if they are not kept.
func (b *Builds) Ingredients(key digest.Digest) ([]Ingredient, error) {
	data, err := b.load(stepsDir, key)
	if err != nil {
		return nil, err
	}
	var list []Ingredient
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("record of step %s: %w", key, errors.Join(err, fs.ErrNotExist))
	}
	return list, nil
}

// SaveFiles keeps a list of files, as view.Listing.Marshal makes it, of a selection with the digest sum.
func (b *Builds) SaveFiles(sum digest.Digest, list []byte) error {
	return b.save(filesDir, sum, func() []byte {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil
		}
		return w.EncodeAll(list, nil)
	})
}

// HasFiles reports whether a list of files is kept.
func (b *Builds) HasFiles(sum digest.Digest) bool { return kept(b.path(filesDir, sum)) }

// kept reports whether a file is there, and makes it young: a sweep beside a build that needs it leaves what is young.
func kept(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Size() == 0 {
		return false // an empty one was damaged by a power failure
	}
	if now := time.Now(); now.Sub(info.ModTime()) > time.Hour {
		_ = os.Chtimes(path, now, now)
	}
	return true
}

// Files returns a list of files; fs.ErrNotExist if it is not kept, or damaged.
func (b *Builds) Files(sum digest.Digest) ([]byte, error) {
	data, err := b.load(filesDir, sum)
	if err != nil {
		return nil, err
	}
	r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("files of a step: %w", err)
	}
	defer r.Close()
	list, err := io.ReadAll(io.LimitReader(r, maxFiles))
	if err != nil {
		return nil, fmt.Errorf("files %s of a step: %w", sum, errors.Join(err, fs.ErrNotExist))
	}
	return list, nil
}

func (b *Builds) path(dir string, d digest.Digest) string {
	return filepath.Join(b.dir, dir, d.Encoded())
}

// save writes a file that is named by a digest, unless it is there.
func (b *Builds) save(dir string, d digest.Digest, data func() []byte) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("record step: %w", err)
	}
	path := b.path(dir, d)
	if b.memory != nil {
		b.memory.save(path, data())
		return nil
	}
	if kept(path) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("record step: %w", err)
	}
	if err := b.store.WriteCacheFile(path, data()); err != nil {
		return fmt.Errorf("record step: %w", err)
	}
	return nil
}

func (b *Builds) load(dir string, d digest.Digest) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("record of a step: %w", err)
	}
	if data, ok := b.memory.load(b.path(dir, d)); ok {
		return data, nil
	}
	data, err := os.ReadFile(b.path(dir, d))
	if err != nil {
		return nil, fmt.Errorf("record of a step: %w", err)
	}
	return data, nil
}
