package ocilayout

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/micabuild/mica/internal/compression"
)

// archive is a layout in a tar. Members are read from the tar.
type archive struct {
	*members
	file     *os.File
	sections map[string]section
}

// section is a part of a file.
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
	a := &archive{members: newMembers(), file: plain, sections: map[string]section{}}
	if err := a.index(ctx); err != nil {
		_ = plain.Close()
		return nil, err
	}
	return a, nil
}

// decompressed returns the file itself if it is regular and not compressed. Otherwise it returns a copy without a name.
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
	// Without a name the file does not outlive the process.
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

// index finds the sections of the members. It skips their content.
func (a *archive) index(ctx context.Context) error {
	total, err := a.file.Seek(0, io.SeekEnd)
	if err != nil {
		return reason(err)
	}
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return reason(err)
	}
	return a.scan(ctx, a.file, func(name string, size int64, _ io.Reader) error {
		// The tar reader does not read ahead: the offset of the file is the beginning of the content.
		offset, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return reason(err)
		}
		if size > total-offset {
			return errors.New("the archive is truncated")
		}
		a.sections[name] = section{offset, size}
		return nil
	})
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	name, err := a.resolve(name)
	if err != nil {
		return nil, 0, err
	}
	m, ok := a.sections[name]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(a.file, m.offset, m.size)), m.size, nil
}

func (a *archive) Close() error { return a.file.Close() }
