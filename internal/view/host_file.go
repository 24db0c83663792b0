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
)

// hostContent reads files below a folder of the host.
type hostContent struct {
	root   *os.Root
	dir    *os.File // root, for openat2; nil if it cannot be had
	memory *Memory
	keys   []fileKey // by tag
}

// newHostContent takes root over.
func newHostContent(root *os.Root, memory *Memory) *hostContent {
	dir, err := root.Open(".")
	if err != nil {
		dir = nil
	}
	return &hostContent{root: root, dir: dir, memory: memory}
}

// Open fails if the file is not the one that was found in its folder.
func (c *hostContent) Open(_ context.Context, e *Entry, tag int) (io.ReadCloser, error) {
	fd, err := c.open(e.Path)
	if errors.Is(err, unix.ENXIO) && e.Size == 0 {
		return io.NopCloser(strings.NewReader("")), nil // a socket
	}
	if err != nil {
		return nil, err
	}
	h := &hostFileReader{fd, e.Path, c.keys[tag]}
	if err := h.unchanged(); err != nil {
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
			return -1, changed(name) // there was no link when the folder was read
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

// hostFileReader reads a file as it was when its folder was read: what a cache key was made of is what is copied.
type hostFileReader struct {
	fd   int
	name string
	key  fileKey
}

// Read looks once more at the end whether the file is still the same.
func (h *hostFileReader) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(h.fd, p)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, &fs.PathError{Op: "read", Path: h.name, Err: err}
		case n == 0 && len(p) > 0:
			if err := h.unchanged(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		return n, nil
	}
}

// Fd lets the file be cloned.
func (h *hostFileReader) Fd() uintptr { return uintptr(h.fd) }

func (h *hostFileReader) Close() error { return unix.Close(h.fd) }

func changed(name string) error {
	return fmt.Errorf("%s changed while the build read it: build again", name)
}

func (h *hostFileReader) unchanged() error {
	var st unix.Stat_t
	if err := unix.Fstat(h.fd, &st); err != nil {
		return err
	}
	if keyOf(&st) != h.key {
		return changed(h.name)
	}
	return nil
}

// readBuffers are what files are digested through.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// Digest reads the file unless its state is remembered.
func (c *hostContent) Digest(ctx context.Context, e *Entry, tag int) (digest.Digest, error) {
	if c.memory != nil {
		if d, ok := c.memory.lookup(c.keys[tag]); ok {
			return d, nil
		}
	}
	began := time.Now()
	f, err := c.Open(ctx, e, tag)
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
	d := digest.NewDigest(digest.SHA256, h)
	if c.memory != nil {
		c.memory.learn(c.keys[tag], d, began)
	}
	return d, nil
}
