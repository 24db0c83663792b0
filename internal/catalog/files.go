package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// ofFile are the errors of a file that do not mean that the view is damaged, or that the host failed.
var ofFile = []error{fs.ErrPermission, unix.ELOOP, unix.ENAMETOOLONG, unix.EISDIR, errSkipped, errIrregular}

var (
	errSkipped   = errors.New(Program + " ended when it read the file")
	errIrregular = errors.New("not a regular file")
)

// file answers a request for a file. What is wrong with the file alone is in the answer.
func (s *server) file(ctx context.Context, r *request) error {
	var answer reply
	opened, err := s.answer(ctx, r, &answer)
	if opened != nil {
		defer func() { _ = opened.Close() }()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		answer = reply{Missing: true}
	case slices.ContainsFunc(ofFile, func(e error) bool { return errors.Is(err, e) }):
		answer = reply{Error: err.Error()}
	case err != nil:
		return err
	}
	if err := s.enc.Encode(&answer); err != nil || opened == nil {
		return err
	}
	_, _, err = s.descriptors.WriteMsgUnix([]byte{0}, unix.UnixRights(int(opened.Fd())), nil)
	return err
}

func (s *server) answer(ctx context.Context, r *request, out *reply) (*os.File, error) {
	at, err := view.Resolve(ctx, s.view, path.Join("/", r.Path), true)
	if err != nil {
		return nil, err
	}
	if r.Op == opReadDir {
		return nil, s.list(ctx, at, out)
	}
	e, err := s.view.Lstat(ctx, at)
	if err != nil {
		return nil, err
	}
	d := describe(e)
	out.File = &d
	if r.Op == opStat {
		return nil, nil
	}
	if err := s.skip[at]; err != nil {
		return nil, fmt.Errorf("%w: %w", errSkipped, err)
	}
	if e.Type != view.TypeRegular {
		return nil, errIrregular
	}
	s.reading = at
	return s.open(ctx, at)
}

// list answers with the files of a directory, but for those whose names JSON does not have.
func (s *server) list(ctx context.Context, dir string, out *reply) error {
	entries, err := s.view.ReadDir(ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if utf8.ValidString(e.Path) {
			out.Files = append(out.Files, describe(e))
			continue
		}
		if s.unnamed++; s.firstName == "" || e.Path < s.firstName {
			s.firstName = e.Path
		}
	}
	return nil
}

// open returns a file that the kernel can pass on: that of a tree, or a copy without a name.
func (s *server) open(ctx context.Context, name string) (*os.File, error) {
	in, err := s.view.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	if f, ok := in.(*os.File); ok {
		return f, nil
	}
	defer func() { _ = in.Close() }()
	f, err := os.CreateTemp(s.dir, "file")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, &cancelled{in, ctx})
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copy %s: %w", name, err), f.Close())
	}
	return f, nil
}

// cancelled is a reader that ends with its context: a file may be long.
type cancelled struct {
	io.Reader
	ctx context.Context
}

func (c *cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

func describe(e *view.Entry) file {
	mode := fs.FileMode(e.Mode & 0o777)
	switch e.Type {
	case view.TypeRegular:
	case view.TypeDir:
		mode |= fs.ModeDir
	case view.TypeSymlink:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	return file{Name: path.Base(e.Path), Mode: uint32(mode), Size: e.Size}
}
