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
)

// A blob that arrives over a network is written to tmp/partial-<hex>, which outlives an interrupted process: the next one
// goes on where it ended. Whoever writes it holds its lock.
const (
	partialPrefix = "partial-"
	// partialAge is how long an interrupted download is kept for another try.
	partialAge = 24 * time.Hour
)

// Partial is a blob that may have begun to arrive earlier.
type Partial struct {
	*BlobWriter
	had int64 // bytes that were there
}

// NewPartial goes on with the blob d, or begins it. It waits while another process writes the same blob, and gives
// ErrExists when that has finished it.
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
		waited, err := lockFile(ctx, f)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("write blob %s: %w", d, err), f.Close())
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

// ErrExists says that another process has meanwhile stored what this one was about to.
var ErrExists = fmt.Errorf("stored by another process: %w", fs.ErrExist)

// lockFile locks an open file; waited says whether somebody else had it.
func lockFile(ctx context.Context, f *os.File) (waited bool, err error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return waited, err
		}
		waited = true
		select {
		case <-ctx.Done():
			return waited, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// Had is the number of bytes that an earlier process left. They are to be written first, as Earlier reads them: they are
// hashed then, not written again.
func (p *Partial) Had() int64 { return p.had }

// Earlier reads what an earlier process left.
func (p *Partial) Earlier() io.Reader { return io.NewSectionReader(p.f, 0, p.had) }

// Discard forgets what has arrived: it is not what was asked for.
func (p *Partial) Discard() error {
	err := os.Remove(p.f.Name())
	return errors.Join(err, p.f.Close())
}

// Close frees the writer, and keeps what has arrived, if the blob was not committed.
func (p *Partial) Close() error {
	if p.onDisk == 0 && p.size == 0 {
		return p.Discard()
	}
	return p.f.Close()
}

// resumable reports whether an entry of tmp/ is a download of the last day, which the next process may resume.
func resumable(e fs.DirEntry) bool {
	if !strings.HasPrefix(e.Name(), partialPrefix) {
		return false
	}
	info, err := e.Info()
	return err != nil || time.Since(info.ModTime()) < partialAge
}
