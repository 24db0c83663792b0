package ocilayout

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

	"github.com/micabuild/mica/internal/compression"
)

// archive is a layout in a tar. Its members are read where they stand.
type archive struct {
	file    *os.File
	members map[string]section
	links   map[string]string
}

// section is where in a file something stands.
type section struct{ offset, size int64 }

func openArchive(ctx context.Context, name, tempDir string) (*archive, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, reason(err)
	}
	plain, err := decompressed(ctx, file, tempDir)
	if plain != file {
		_ = file.Close()
	}
	if err != nil {
		return nil, err
	}
	a := &archive{file: plain, members: map[string]section{}, links: map[string]string{}}
	if err := a.index(ctx); err != nil {
		_ = plain.Close()
		return nil, err
	}
	return a, nil
}

// decompressed returns the file itself if it is a plain one that can be read anywhere, else a copy without a name.
func decompressed(ctx context.Context, file *os.File, tempDir string) (*os.File, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, reason(err)
	}
	if info.IsDir() {
		return nil, errors.New("it is a directory, not an archive")
	}
	r, algorithm, err := compression.NewReader(bufio.NewReaderSize(contextReader{ctx, file}, 64<<10))
	if err != nil {
		return nil, reason(err)
	}
	defer func() { _ = r.Close() }()
	if algorithm == compression.None && info.Mode().IsRegular() {
		return file, nil
	}
	temp, err := os.CreateTemp(tempDir, "archive-")
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	// Without a name it is gone when it is closed, however the process ends.
	if err := os.Remove(temp.Name()); err != nil {
		_ = temp.Close()
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if _, err := io.Copy(temp, contextReader{ctx, r}); err != nil {
		_ = temp.Close()
		return nil, fmt.Errorf("decompress: %w", reason(err))
	}
	return temp, nil
}

// index finds where the members are. Their contents are skipped.
func (a *archive) index(ctx context.Context) error {
	total, err := a.file.Seek(0, io.SeekEnd)
	if err != nil {
		return reason(err)
	}
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return reason(err)
	}
	names := 0
	tr := tar.NewReader(a.file)
	for n := 0; ; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			return errors.New("it is not an image archive: it is empty")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && n == 0:
			return fmt.Errorf("it is not an image archive: %w", reason(err))
		case errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the archive is truncated")
		case err != nil:
			return fmt.Errorf("the archive is damaged: %w", reason(err))
		}
		if names += len(h.Name) + len(h.Linkname); n >= maxMembers || names > maxAllJSON {
			return fmt.Errorf("the archive has more than %d members, or names that take more than %d bytes", maxMembers, maxAllJSON)
		}
		// The tar reader does not read ahead: the file stands where the content begins.
		offset, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return reason(err)
		}
		if err := a.add(h, offset, total); err != nil {
			return err
		}
	}
}

func (a *archive) add(h *tar.Header, offset, total int64) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return fmt.Errorf("the archive is not safe: member %w", err)
	}
	if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink {
		_, member := a.members[name]
		if _, link := a.links[name]; member || link {
			return fmt.Errorf("the archive has %q twice", name)
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		if h.Size > total-offset {
			return errors.New("the archive is truncated")
		}
		a.members[name] = section{offset, h.Size}
	case tar.TypeSymlink:
		// docker save of old writes one for a layer that is there already.
		target, err := cleanName(path.Join(path.Dir(name), h.Linkname)) //nolint:gosec // cleanName refuses what leads out
		if err != nil || path.IsAbs(h.Linkname) {
			return fmt.Errorf("the archive is not safe: link %q points to %q, outside of it", name, h.Linkname)
		}
		a.links[name] = target
	case tar.TypeLink:
		target, err := cleanName(h.Linkname)
		if err != nil {
			return fmt.Errorf("the archive is not safe: link %q points to %q, outside of it", name, h.Linkname)
		}
		a.links[name] = target
	}
	return nil
}

// follow resolves links between members, of which there are never many in a row.
func (a *archive) follow(name string) string {
	for range 8 {
		target, ok := a.links[name]
		if !ok {
			break
		}
		name = target
	}
	return name
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	clean, err := cleanName(name)
	if err != nil {
		return nil, 0, err
	}
	m, ok := a.members[a.follow(clean)]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(a.file, m.offset, m.size)), m.size, nil
}

func (a *archive) Close() error { return a.file.Close() }
