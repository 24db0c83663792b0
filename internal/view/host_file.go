package view

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// hostContent reads files below a folder of the host.
type hostContent struct {
	root   *os.Root
	memory *Memory
	keys   []fileKey // by tag
}

// Open fails if the file is not the one that was found in its folder.
func (c *hostContent) Open(_ context.Context, e *Entry, tag int) (io.ReadCloser, error) {
	f, err := c.root.OpenFile(e.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENXIO) && e.Size == 0 {
		return io.NopCloser(strings.NewReader("")), nil // a socket
	}
	if err != nil {
		return nil, err
	}
	h := &hostFileReader{f, e.Path, c.keys[tag]}
	if err := h.unchanged(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return h, nil
}

// hostFileReader reads a file as it was when its folder was read: what a cache key was made of is what is copied.
type hostFileReader struct {
	*os.File
	name string
	key  fileKey
}

// Read looks once more at the end whether the file is still the same.
func (h *hostFileReader) Read(p []byte) (int, error) {
	n, err := h.File.Read(p)
	if errors.Is(err, io.EOF) {
		if changed := h.unchanged(); changed != nil {
			return n, changed
		}
	}
	return n, err
}

// WriteTo keeps io.Copy from going around Read.
func (h *hostFileReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{h})
}

func (h *hostFileReader) unchanged() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &st); err != nil {
		return err
	}
	if (fileKey{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}) != h.key {
		return fmt.Errorf("%s changed while the build read it: build again", h.name)
	}
	return nil
}

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
	h := digest.SHA256.Hash()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	d := digest.NewDigest(digest.SHA256, h)
	if c.memory != nil {
		c.memory.learn(c.keys[tag], d, began)
	}
	return d, nil
}

func hexBytes(d digest.Digest) ([]byte, error) { return hex.DecodeString(d.Encoded()) }
