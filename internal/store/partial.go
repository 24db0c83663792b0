package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/flock"
)

// A blob that is downloaded is written to tmp/partial-<hex>. The file outlives an interrupted process, and the next process
// resumes the download. The process that writes the file holds its lock.
const (
	partialPrefix = "partial-"
	// partialAge is how long an interrupted download is retained.
	partialAge = 24 * time.Hour
)

// Partial is a blob whose download may have been interrupted earlier.
type Partial struct {
	*BlobWriter
	had int64 // bytes from an earlier process
}

// NewPartial starts or resumes the download of the blob d. It waits while another process downloads the same blob, and returns
// ErrExists when that process has completed it.
func (s *Store) NewPartial(ctx context.Context, d digest.Digest) (*Partial, error) {
	if err := validDigest(d); err != nil {
		return nil, err
	}
	path := s.Path("tmp", partialPrefix+d.Encoded())
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, fmt.Errorf("write blob: %w", err)
		}
		locked, err := flock.Try(f, flock.Exclusive)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("write blob %s: %w", d, err), f.Close())
		}
		waited := !locked
		if waited {
			if err := flock.Wait(ctx, f, flock.Exclusive); err != nil {
				return nil, fmt.Errorf("write blob %s: %w", d, err)
			}
		}
		have, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(path); err != nil || !os.SameFile(have, there) {
			// Renamed or removed by the process that held it.
			_ = f.Close()
			if _, err := s.StatBlob(d); err == nil && waited {
				return nil, ErrExists
			}
			continue
		}
		w := &BlobWriter{s: s, f: f, hash: digest.SHA256.Hash(), onDisk: have.Size()}
		return &Partial{w, have.Size()}, nil
	}
}

// ErrExists means that another process has stored the blob in the meantime.
var ErrExists = fmt.Errorf("stored by another process: %w", fs.ErrExist)

// Had is the number of bytes that an earlier process left. The caller writes them first, as Earlier returns them: Write hashes
// them, but does not write them again.
func (p *Partial) Had() int64 { return p.had }

// Earlier returns the bytes that an earlier process left.
func (p *Partial) Earlier() io.Reader { return io.NewSectionReader(p.f, 0, p.had) }

// Discard removes what was downloaded: it is not the blob that was asked for.
func (p *Partial) Discard() error {
	err := os.Remove(p.f.Name())
	return errors.Join(err, p.f.Close())
}

// Close releases the writer. If the blob was not committed, the next process can resume the download.
func (p *Partial) Close() error {
	if p.onDisk == 0 && p.size == 0 {
		return p.Discard()
	}
	return p.f.Close()
}

// resumable reports whether an entry of tmp/ is a download of the last day, which a process may resume.
func resumable(e fs.DirEntry) bool {
	if !strings.HasPrefix(e.Name(), partialPrefix) {
		return false
	}
	info, err := e.Info()
	return err != nil || time.Since(info.ModTime()) < partialAge
}
