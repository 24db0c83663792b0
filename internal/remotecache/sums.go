package remotecache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/table"
)

// Sums is a cache of BuildKit's digests of files. The keys are the files' headers and the digests of their content: a file
// whose content is known is not read again. It is safe for concurrent use.
type Sums struct{ table *table.Table }

var sumsFormat = table.Format{Magic: "mica-buildkit-2\n", KeySize: sha256.Size, ValueSize: sha256.Size}

// maxSums limits the records of the file, of 68 bytes each. Beyond it only the records that the last build used are kept.
const maxSums = 1 << 20

// OpenSums opens the sums in a file. A file that is missing or damaged counts as empty.
func OpenSums(path string) *Sums { return &Sums{table.Open(path, sumsFormat)} }

// get returns the digest of a file, from the cache or else computed.
func (s *Sums) get(head string, content digest.Digest, compute func() (digest.Digest, error)) (digest.Digest, error) {
	if s == nil {
		return compute()
	}
	h := sha256.New()
	_, _ = io.WriteString(h, content.String()+head)
	key := h.Sum(nil)
	if raw, ok := s.table.Get(key); ok {
		return digest.NewDigestFromBytes(digest.SHA256, raw), nil
	}
	d, err := compute()
	if err != nil {
		return "", err
	}
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("digest %s: not a sha256", d)
	}
	s.table.Put(key, raw)
	return d, nil
}

// Save writes the sums to disk, together with those that other builds have saved.
func (s *Sums) Save(ctx context.Context) error {
	if err := s.table.Save(ctx, maxSums); err != nil {
		return fmt.Errorf("save checksums of the build cache: %w", err)
	}
	return nil
}

// Close releases the sums. They then have only those that were computed since OpenSums.
func (s *Sums) Close() error {
	if s == nil {
		return nil
	}
	return s.table.Close()
}
