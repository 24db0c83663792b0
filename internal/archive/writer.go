package archive

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"time"
)

// memberWriter is where the files of an archive go.
type memberWriter interface {
	add(name string, size int64, r io.Reader) error
}

type tarMembers struct{ tw *tar.Writer }

// add writes a file. All have the same time: an archive says when its images were made, not when it was.
func (m tarMembers) add(name string, size int64, r io.Reader) error {
	err := m.tw.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(m.tw, r)
	return err
}

type folderMembers struct{ root *os.Root }

// add writes a file beside its place, and moves it there when it is whole.
func (m folderMembers) add(name string, _ int64, r io.Reader) (err error) {
	if err := m.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	temp := name + ".new"
	f, err := m.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, m.root.Remove(temp))
	}
	return m.root.Rename(temp, name)
}

// contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
