package ocilayout

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/micabuild/mica/internal/compression"
)

// stream is an archive that was read from start to end, as from a pipe. It has the small files in memory.
type stream struct {
	*members
	documents map[string][]byte
	size      int // of the documents, in bytes
	layer     func(name string, r io.Reader) error
}

// ReadStream reads an archive of docker save, or a layout in a tar, from start to end. The source that it returns has the
// manifests, configs and indexes. It calls layer for every file that may be a layer, with a name that [Source.Resolve]
// returns. layer need not read the whole file. It returns an error only to stop: an archive may have files that belong to no
// image.
func ReadStream(ctx context.Context, in io.Reader, layer func(name string, r io.Reader) error) (*Source, error) {
	s := &stream{members: newMembers(), documents: map[string][]byte{}, layer: layer}
	if err := s.scan(ctx, in, s.file); err != nil {
		return nil, err
	}
	// Read the rest after the tar, to detect a truncated compressed file.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, s.damaged(err)
	}
	return newSource(ctx, &Location{Kind: DockerArchive}, s)
}

// tarMagic is in the header of a tar's first member. The name of the member precedes it, and may begin as JSON does.
const (
	tarMagic   = "ustar"
	tarMagicAt = 257
)

// file reads a file. Its first bytes decide: JSON, and files that are too short for a tar, are kept in memory. Other files
// are layers. A layer may be empty, without files.
func (s *stream) file(name string, size int64, content io.Reader) error {
	in := bufio.NewReaderSize(content, 64<<10)
	head, err := in.Peek(tarMagicAt + len(tarMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return s.damaged(err)
	}
	isLayer := size == 0 || compression.Detect(head) != compression.None || bytes.HasSuffix(head, []byte(tarMagic))
	if isLayer || size >= 512 && head[0] != '{' && head[0] != '[' {
		return s.layer(name, in)
	}
	if size > maxJSON {
		return fmt.Errorf("%s has %d bytes, the limit for a manifest or config is %d", name, size, maxJSON)
	}
	if s.size += int(size); s.size > maxAllJSON {
		return fmt.Errorf("manifests and configs take more than %d bytes", maxAllJSON)
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return s.damaged(err)
	}
	s.documents[name] = data
	return nil
}

func (s *stream) open(name string) (io.ReadCloser, int64, error) {
	name, err := s.resolve(name)
	if err != nil {
		return nil, 0, err
	}
	data, ok := s.documents[name]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
}

func (s *stream) Close() error { return nil }
