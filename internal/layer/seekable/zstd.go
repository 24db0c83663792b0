package seekable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
)

// The annotations of a zstd:chunked blob (go.podman.io/storage, pkg/chunked/internal/minimal), which begin with one of zstdPrefixes: the
// second is that of podman before 4.3, and of stargz-snapshotter. The table is a skippable frame of the blob.
const (
	checksumAnnotation = "zstd-chunked.manifest-checksum" // the digest of the compressed table
	positionAnnotation = "zstd-chunked.manifest-position" // offset:length:decompressed length:type
)

var zstdPrefixes = []string{"io.github.containers.", "io.containers."}

func zstdAnnotation(d ocispec.Descriptor, name string) string {
	for _, prefix := range zstdPrefixes {
		if value := d.Annotations[prefix+name]; value != "" {
			return value
		}
	}
	return ""
}

// position has the offset, the length, the decompressed length and the type.
var position = regexp.MustCompile(`^([0-9]{1,18}):([0-9]{1,18}):([0-9]{1,18}):1$`)

// openZstd reads the table of a zstd:chunked blob. The annotations say where it is.
func openZstd(ctx context.Context, d ocispec.Descriptor, want digest.Digest, read Range) (*entries, error) {
	from, to, err := zstdPosition(d)
	if err != nil {
		return nil, err
	}
	packed, err := read.readAll(ctx, from, to)
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(packed); got != want {
		return nil, &digestError{got, want}
	}
	table, algorithm, err := compression.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	if algorithm != compression.Zstd {
		return nil, errors.New("it is not compressed with zstd")
	}
	return newEntries(table, "", from), nil
}

// zstdPosition is where the annotations say that the table is.
func zstdPosition(d ocispec.Descriptor) (from, to int64, err error) {
	text := zstdAnnotation(d, positionAnnotation)
	m := position.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, fmt.Errorf("invalid position %.100q", text)
	}
	var n [3]int64
	for i := range n {
		if n[i], err = strconv.ParseInt(m[i+1], 10, 64); err != nil {
			return 0, 0, err
		}
	}
	switch {
	case n[0] == 0 || n[1] == 0 || n[0] > d.Size-n[1]:
		return 0, 0, fmt.Errorf("position %s is outside a blob of %d bytes", text, d.Size)
	case n[1] > maxPacked || n[2] > maxTable:
		return 0, 0, fmt.Errorf("it is too large: %d bytes, %d decompressed", n[1], n[2])
	}
	return n[0], n[0] + n[1], nil
}
