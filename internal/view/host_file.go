package view

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/digestcache"
)

// hostContent reads files below a directory of the host.
type hostContent struct {
	root    *os.Root
	dir     *os.File // root, for openat2; nil if it cannot be had
	digests *digestcache.Cache
	keys    []digestcache.FileState // by tag

	// live has the digests of files that were changing when their directory was read, by tag.
	live map[int]digest.Digest
}

// newHostContent takes root over.
func newHostContent(root *os.Root, digests *digestcache.Cache) *hostContent {
	dir, err := root.Open(".")
	if err != nil {
		dir = nil
	}
	return &hostContent{root: root, dir: dir, digests: digests}
}

// Open fails if the file is not the one that was found in its directory. One of which the digest is known may have been appended
// to, as logs are: it is read as long as it was, and the reader reports by Changed that the digest must be compared.
func (c *hostContent) Open(_ context.Context, e *Entry, tag int) (io.ReadCloser, error) {
	_, known := c.known(tag)
	return c.reader(e, tag, known)
}

// reader opens a file that has not changed or, where it may grow, has only become longer.
func (c *hostContent) reader(e *Entry, tag int, mayGrow bool) (io.ReadCloser, error) {
	fd, err := c.open(e.Path)
	if errors.Is(err, unix.ENXIO) && e.Size == 0 {
		return io.NopCloser(strings.NewReader("")), nil // a socket
	}
	if err != nil {
		return nil, err
	}
	h := &hostFileReader{fd: fd, name: e.Path, key: c.keys[tag], left: c.keys[tag].Size, mayGrow: mayGrow}
	if err := h.look(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// open opens a file below the root, through no symlink: in one system call, or in one for each component where the
// kernel or a sandbox has no openat2(2).
func (c *hostContent) open(name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
	for c.dir != nil {
		fd, err := unix.Openat2(int(c.dir.Fd()), name, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ELOOP):
			return -1, changed(name) // there was no link when the directory was read
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM), errors.Is(err, unix.EAGAIN):
		case err != nil:
			return -1, &fs.PathError{Op: "open", Path: name, Err: err}
		default:
			return fd, nil
		}
		break
	}
	f, err := c.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	defer func() { _ = f.Close() }()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}

// hostFileReader reads a file as it was when its directory was read: what a cache key was made of is what is copied.
type hostFileReader struct {
	fd      int
	name    string
	key     digestcache.FileState
	left    int64 // of the size that the file had
	mayGrow bool
	// other says that the file was in another state when it was last looked at.
	other bool
}

// Read looks once more at the end whether the file is still the same.
func (h *hostFileReader) Read(p []byte) (int, error) {
	if h.left == 0 && len(p) > 0 {
		return 0, h.end()
	}
	p = p[:min(int64(len(p)), h.left)]
	for {
		n, err := unix.Read(h.fd, p)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, &fs.PathError{Op: "read", Path: h.name, Err: err}
		case n == 0 && len(p) > 0:
			return 0, h.end()
		}
		h.left -= int64(n)
		return n, nil
	}
}

// Fd lets the file be cloned.
func (h *hostFileReader) Fd() uintptr { return uintptr(h.fd) }

func (h *hostFileReader) Close() error { return unix.Close(h.fd) }

func changed(name string) error {
	return fmt.Errorf("%s changed while the build read it: build again", name)
}

func (h *hostFileReader) end() error {
	if err := h.look(); err != nil {
		return err
	}
	return io.EOF
}

// look returns an error if the file has changed, unless it may have become longer, and has.
func (h *hostFileReader) look() error {
	var st unix.Stat_t
	if err := unix.Fstat(h.fd, &st); err != nil {
		return err
	}
	now := digestcache.StateOf(&st)
	h.other = now != h.key
	grown := now.Dev == h.key.Dev && now.Ino == h.key.Ino && now.Size > h.key.Size && st.Mode&unix.S_IFMT == unix.S_IFREG
	if h.other && (!h.mayGrow || !grown) {
		return changed(h.name)
	}
	return nil
}

// Changed reports whether the file was, when it was opened or read to its end, in another state than when its directory was read.
// What was read then may be something else than what a key was made of.
func (h *hostFileReader) Changed() bool { return h.other }

// Changing reports whether the file has changed, or is likely to while it is read: it did a moment ago.
func (h *hostFileReader) Changing() bool { return h.other || changing(h.key, time.Now()) }

// readBuffers are what files are digested through.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// Digest reads the file unless the digest of its state is known.
func (c *hostContent) Digest(_ context.Context, e *Entry, tag int) (digest.Digest, error) {
	if d, ok := c.known(tag); ok {
		return d, nil
	}
	began := time.Now()
	d, err := c.digest(e, tag, false)
	if err == nil && c.digests != nil {
		c.digests.AddFile(c.keys[tag], d, began)
	}
	return d, err
}

func (c *hostContent) digest(e *Entry, tag int, mayGrow bool) (digest.Digest, error) {
	f, err := c.reader(e, tag, mayGrow)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	buf, _ := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buf)
	h := sha256.New()
	if _, err := io.CopyBuffer(h, f, *buf); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, h), nil
}

// known returns a digest that was computed when the directory was read, or is in the digest cache.
func (c *hostContent) known(tag int) (digest.Digest, bool) {
	d, ok := c.live[tag]
	if !ok && c.digests != nil {
		d, ok = c.digests.File(c.keys[tag])
	}
	return d, ok
}
