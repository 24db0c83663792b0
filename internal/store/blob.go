package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/sparse"
)

// maxSmallBlob bounds what ReadBlob takes into memory: a manifest or config. The distribution specification asks
// registries to accept manifests of 4 MiB.
const maxSmallBlob = 4 << 20

// blobPath returns the path of a blob that is read or written, and holds the blob: see Hold.
func (s *Store) blobPath(d digest.Digest) string {
	s.Hold(HeldBlob, d)
	return s.blobFile(d)
}

// blobFile returns the path of a blob.
func (s *Store) blobFile(d digest.Digest) string { return s.Path("blobs", "sha256", d.Encoded()) }

// StatBlob returns the size of a blob, in bytes, or ErrNotFound.
func (s *Store) StatBlob(d digest.Digest) (int64, error) {
	if err := validDigest(d); err != nil {
		return 0, err
	}
	info, err := os.Stat(s.blobPath(d))
	if err != nil {
		return 0, blobError(d, err)
	}
	return info.Size(), nil
}

// OpenBlob opens a blob for random access, without verifying it. VerifiedBlob and ReadBlob verify whole blobs.
func (s *Store) OpenBlob(d digest.Digest) (*os.File, error) {
	if err := validDigest(d); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(d))
	if err != nil {
		return nil, blobError(d, err)
	}
	return f, nil
}

func blobError(d digest.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", d, ErrNotFound)
	}
	return fmt.Errorf("blob %s: %w", d, err)
}

// VerifiedBlob streams a blob. If the content does not match d, the last read returns ErrDamaged instead of io.EOF.
func (s *Store) VerifiedBlob(d digest.Digest) (io.ReadCloser, error) {
	f, err := s.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	return &verifiedBlob{f, digest.SHA256.Hash(), d}, nil
}

type verifiedBlob struct {
	*os.File
	hash hash.Hash
	want digest.Digest
}

func (v *verifiedBlob) Read(p []byte) (int, error) {
	n, err := v.File.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF {
		if got := digest.NewDigest(digest.SHA256, v.hash); got != v.want {
			return n, fmt.Errorf("blob %s is %w: its content is %s", v.want, ErrDamaged, got)
		}
	}
	return n, err
}

// WriteTo keeps io.Copy from using the file's own WriteTo, which would bypass the verification.
func (v *verifiedBlob) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(w, struct{ io.Reader }{v}, make([]byte, 256<<10))
}

// ReadBlob returns the verified content of a small blob: a manifest or config of at most 4 MiB.
func (s *Store) ReadBlob(d digest.Digest) ([]byte, error) {
	f, err := s.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxSmallBlob+1))
	if err != nil {
		return nil, blobError(d, err)
	}
	if len(data) > maxSmallBlob {
		return nil, fmt.Errorf("blob %s is larger than the %d bytes that a manifest or config may have", d, maxSmallBlob)
	}
	if got := digest.FromBytes(data); got != d {
		return nil, fmt.Errorf("blob %s is %w: its content is %s", d, ErrDamaged, got)
	}
	return data, nil
}

// WriteBlob stores data and returns its digest. It does not write a blob that is already stored, and replaces a damaged one.
func (s *Store) WriteBlob(data []byte) (digest.Digest, error) {
	d := digest.FromBytes(data)
	if old, err := os.ReadFile(s.blobPath(d)); err == nil && bytes.Equal(old, data) {
		return d, nil
	}
	if err := s.WriteFileAtomic(s.blobPath(d), data); err != nil {
		return "", fmt.Errorf("write blob: %w", err)
	}
	return d, nil
}

// BlobWriter writes a blob and computes its digest. Close without Commit discards the blob.
type BlobWriter struct {
	s      *Store
	f      *os.File
	hash   hash.Hash
	size   int64
	onDisk int64 // bytes that the file had when the writer was made: see Partial
	out    *sparse.Writer
}

// NewBlob starts to write a blob, in tmp/.
func (s *Store) NewBlob() (*BlobWriter, error) {
	f, err := s.tempFile("blob-*")
	if err != nil {
		return nil, fmt.Errorf("write blob: %w", err)
	}
	return &BlobWriter{s: s, f: f, hash: digest.SHA256.Hash()}, nil
}

func (w *BlobWriter) Write(p []byte) (int, error) {
	skip := int(min(int64(len(p)), max(w.onDisk-w.size, 0)))
	if skip < len(p) {
		if w.out == nil {
			w.out = sparse.NewWriter(w.f, w.size+int64(skip))
		}
		if _, err := w.out.Write(p[skip:]); err != nil {
			return 0, fmt.Errorf("write blob: %w", err)
		}
	}
	w.hash.Write(p)
	w.size += int64(len(p))
	return len(p), nil
}

// Size is the number of bytes written so far.
func (w *BlobWriter) Size() int64 { return w.size }

// Digest is the digest of what was written so far.
func (w *BlobWriter) Digest() digest.Digest { return digest.NewDigest(digest.SHA256, w.hash) }

// Commit stores the blob under its digest, and returns that. If want is not "" and the content has another digest, it stores
// nothing and returns ErrDamaged. It does not sync the blob to disk: layers, and blobs that a registry has, can be made or
// fetched again.
func (w *BlobWriter) Commit(want digest.Digest) (digest.Digest, error) {
	d := w.Digest()
	if want != "" && want != d {
		return "", fmt.Errorf("content is %w: expected %s, got %s", ErrDamaged, want, d)
	}
	if err := w.complete(); err != nil {
		return "", fmt.Errorf("write blob: %w", err)
	}
	if err := os.Rename(w.f.Name(), w.s.blobPath(d)); err != nil {
		return "", fmt.Errorf("write blob: %w", err)
	}
	return d, nil
}

// complete sets the length of the file to what was written.
func (w *BlobWriter) complete() error {
	if w.onDisk > w.size {
		return w.f.Truncate(w.size)
	}
	if w.out == nil {
		return nil
	}
	return w.out.Close()
}

// Close releases the writer, and removes the temporary file unless the blob was committed.
func (w *BlobWriter) Close() error {
	err := w.f.Close()
	if rmErr := os.Remove(w.f.Name()); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}

// BlobInfo describes a stored blob; Size is in bytes.
type BlobInfo struct {
	Digest  digest.Digest
	Size    int64
	ModTime time.Time
}

// Blobs lists all stored blobs. It skips files whose name is not a digest.
func (s *Store) Blobs() iter.Seq2[BlobInfo, error] {
	return func(yield func(BlobInfo, error) bool) {
		entries, err := os.ReadDir(s.Path("blobs", "sha256"))
		if err != nil {
			yield(BlobInfo{}, fmt.Errorf("list blobs: %w", err))
			return
		}
		for _, e := range entries {
			d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
			info, err := e.Info()
			if validDigest(d) != nil || err != nil {
				continue
			}
			if !yield(BlobInfo{d, info.Size(), info.ModTime()}, nil) {
				return
			}
		}
	}
}

// RemoveBlob removes a blob. A missing blob is not an error.
func (s *Store) RemoveBlob(d digest.Digest) error {
	if err := validDigest(d); err != nil {
		return err
	}
	if err := os.Remove(s.blobFile(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}
