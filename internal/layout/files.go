package layout

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/micabuild/mica/internal/compression"
)

// folder is a layout in a folder. Its names, and its symlinks, lead nowhere else.
type folder struct{ root *os.Root }

func openFolder(path string) (*folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &folder{root}, nil
}

func (f *folder) open(name string) (io.ReadCloser, int64, error) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

func (f *folder) Close() error { return f.root.Close() }

// archive is a layout in a tar, whose members are read where they stand.
type archive struct {
	file    *os.File
	temp    bool // file is a decompressed copy
	members map[string]member
	links   map[string]string
}

type member struct{ offset, size int64 }

// openArchive finds out where the members of a tar are. A compressed one is decompressed to a file in tempDir first.
func openArchive(ctx context.Context, path, tempDir string) (*archive, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	a := &archive{file: file, members: map[string]member{}, links: map[string]string{}}
	if err := a.unpack(ctx, tempDir); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	if err := a.index(ctx); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *archive) unpack(ctx context.Context, tempDir string) error {
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	in := bufio.NewReader(a.file)
	plain, algorithm, err := compression.NewReader(in)
	if err != nil {
		return err
	}
	defer func() { _ = plain.Close() }()
	if algorithm == compression.None && info.Mode().IsRegular() {
		return nil
	}
	copied, err := os.CreateTemp(tempDir, "archive-")
	if err != nil {
		return err
	}
	_, err = io.Copy(copied, contextReader{ctx, plain})
	err = errors.Join(err, a.file.Close())
	a.file, a.temp = copied, true
	return err
}

func (a *archive) index(ctx context.Context) error {
	size, err := a.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	at := &seekCounter{r: io.NewSectionReader(a.file, 0, size)}
	tr := tar.NewReader(at)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			if n == 0 {
				return errors.New("it is empty")
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is no tar archive, or a damaged one: %w", err)
		}
		if n >= maxMembers {
			return fmt.Errorf("it has more than %d members", maxMembers)
		}
		if err := a.add(h, at.n, size); err != nil {
			return err
		}
	}
}

func (a *archive) add(h *tar.Header, offset, total int64) error {
	name := strings.TrimPrefix(path.Clean(h.Name), "/")
	if name == ".." || strings.HasPrefix(name, "../") {
		return fmt.Errorf("member %q is outside of the archive", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		if offset+h.Size > total {
			return errors.New("the archive is truncated")
		}
		a.members[name] = member{offset, h.Size}
	case tar.TypeSymlink:
		a.links[name] = path.Join(path.Dir(name), h.Linkname) //nolint:gosec // links lead to members, nowhere else
	case tar.TypeLink:
		a.links[name] = path.Clean(h.Linkname)
	}
	return nil
}

// seekCounter knows where in the file the tar reader is. It can seek, so that contents are not read.
type seekCounter struct {
	r *io.SectionReader
	n int64
}

func (s *seekCounter) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	return n, err
}

func (s *seekCounter) Seek(offset int64, whence int) (int64, error) {
	n, err := s.r.Seek(offset, whence)
	s.n = n
	return n, err
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	for range 8 {
		target, ok := a.links[name]
		if !ok {
			break
		}
		name = target
	}
	m, ok := a.members[name]
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(a.file, m.offset, m.size)), m.size, nil
}

func (a *archive) Close() error {
	err := a.file.Close()
	if a.temp {
		err = errors.Join(err, os.Remove(a.file.Name()))
	}
	return err
}

// contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
