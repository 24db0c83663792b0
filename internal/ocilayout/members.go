package ocilayout

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
)

// members are the names in a tar, and the links between them.
type members struct {
	count int
	size  int // of all names, in bytes
	files map[string]bool
	links map[string]string
}

func newMembers() *members { return &members{files: map[string]bool{}, links: map[string]string{}} }

// scan reads a tar to its end, and calls file for every regular file. It skips content that file does not read.
func (m *members) scan(ctx context.Context, in io.Reader, file func(name string, size int64, content io.Reader) error) error {
	tr := tar.NewReader(in)
	for ; ; m.count++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF) && m.count == 0:
			return errors.New("not an image archive: it is empty")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return m.damaged(err)
		}
		name, err := m.add(h)
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg {
			if err := file(name, h.Size, tr); err != nil {
				return err
			}
		}
	}
}

// damaged returns the error of a damaged tar in users' words.
func (m *members) damaged(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case m.count == 0:
		return fmt.Errorf("not an image archive: %w", reason(err))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the archive is truncated")
	}
	return fmt.Errorf("the archive is damaged: %w", reason(err))
}

// add records the name and the link of a member, and returns the clean name.
func (m *members) add(h *tar.Header) (string, error) {
	if m.size += len(h.Name) + len(h.Linkname); m.count >= maxMembers || m.size > maxAllJSON {
		return "", fmt.Errorf("the archive has more than %d members, or names that take more than %d bytes", maxMembers, maxAllJSON)
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return "", fmt.Errorf("the archive is not safe: member %w", err)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeSymlink, tar.TypeLink:
		if _, link := m.links[name]; link || m.files[name] {
			return "", fmt.Errorf("the archive has %q twice", name)
		}
	}
	var target string
	switch h.Typeflag {
	case tar.TypeReg:
		m.files[name] = true
		return name, nil
	case tar.TypeSymlink:
		// Old versions of docker save write a symlink for a layer that the archive has already.
		target, err = cleanName(path.Join(path.Dir(name), h.Linkname)) //nolint:gosec // cleanName refuses names outside
		if path.IsAbs(h.Linkname) {
			err = errors.New("absolute")
		}
	case tar.TypeLink:
		target, err = cleanName(h.Linkname)
	default:
		return name, nil
	}
	if err != nil {
		return "", fmt.Errorf("the archive is not safe: link %q points to %q, outside of the archive", name, h.Linkname)
	}
	m.links[name] = target
	return name, nil
}

// resolve cleans a name and follows links between members, at most 8.
func (m *members) resolve(name string) (string, error) {
	name, err := cleanName(name)
	if err != nil {
		return "", err
	}
	for range 8 {
		target, ok := m.links[name]
		if !ok {
			break
		}
		name = target
	}
	return name, nil
}
