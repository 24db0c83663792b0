package view

import (
	"bytes"
	"context"
	"io"

	"github.com/opencontainers/go-digest"
)

// Files is a view of files in memory, by path, owned by root with mode 0644.
func Files(files map[string][]byte) View {
	m := make(memoryFiles, 0, len(files))
	x := NewIndex(nil, len(files))
	for name, data := range files {
		x.Put(&Entry{Path: Clean(name), Type: TypeRegular, Mode: 0o644, Size: int64(len(data)), Digest: digest.FromBytes(data)}, len(m))
		m = append(m, data)
	}
	x.content = m
	return x.Freeze()
}

type memoryFiles [][]byte

func (m memoryFiles) Open(_ context.Context, _ *Entry, tag int) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m[tag])), nil
}

func (m memoryFiles) Digest(_ context.Context, _ *Entry, tag int) (digest.Digest, error) {
	return digest.FromBytes(m[tag]), nil
}
