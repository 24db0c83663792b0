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

// stream is an archive that was read from start to end, as one from a pipe must be. It has kept the small files.
type stream struct {
	*members
	documents map[string][]byte
	size      int // of the documents, in bytes
	layer     func(name string, r io.Reader) error
}

// ReadStream reads an archive of docker save, or a layout in a tar, from start to end. Manifests, configs and indexes can
// be read from the source that it returns; layers are given to layer as they come, which may leave some of them unread. The
// names that layer is told are those that [Source.Resolve] returns. An archive may have files that no image is made of:
// layer is to return an error only if reading on makes no sense.
func ReadStream(ctx context.Context, in io.Reader, layer func(name string, r io.Reader) error) (*Source, error) {
	s := &stream{members: newMembers(), documents: map[string][]byte{}, layer: layer}
	if err := s.scan(ctx, in, s.file); err != nil {
		return nil, err
	}
	// What follows the end of the tar must still decompress: a truncated file shows there.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, s.damaged(err)
	}
	return newSource(ctx, &Location{Kind: DockerArchive}, s)
}

// tarMagic stands in the header of a tar's first member, whose name comes before it and may begin as JSON does.
const (
	tarMagic   = "ustar"
	tarMagicAt = 257
)

// file takes a file by its first bytes: JSON and what is too short for a tar is kept, anything else is taken for a layer.
// That may have no bytes at all, and no files then.
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
		return fmt.Errorf("%s has %d bytes, more than the %d that a manifest or config may have", name, size, maxJSON)
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
