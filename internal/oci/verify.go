package oci

import (
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxDocument is the size in bytes that a manifest, config or index may have: what the distribution specification asks
// registries to accept ("Pushing Manifests").
const MaxDocument = 4 << 20

// VerifiedReader reads the blob that a descriptor names. Its last bytes are returned only when all bytes are known to be
// right, so that a caller who counts bytes, to send them on, does not mistake a wrong blob for a whole one.
type VerifiedReader struct {
	r    io.Reader
	desc ocispec.Descriptor
	hash hash.Hash
	left int64
	err  error
}

// NewVerifiedReader returns a reader of r that fails if r is not what d says. The descriptor must be valid: see
// [CheckDescriptor].
func NewVerifiedReader(r io.Reader, d ocispec.Descriptor) *VerifiedReader {
	return &VerifiedReader{r: r, desc: d, hash: digest.SHA256.Hash(), left: d.Size}
}

// Read implements io.Reader.
func (v *VerifiedReader) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > v.left {
		p = p[:v.left]
	}
	var n int
	if v.left > 0 {
		n, v.err = v.r.Read(p)
	}
	v.hash.Write(p[:n])
	v.left -= int64(n)
	switch {
	case v.left > 0 && errors.Is(v.err, io.EOF):
		v.err = fmt.Errorf("blob %s ends after %d of %d bytes: %w", v.desc.Digest, v.desc.Size-v.left, v.desc.Size, io.ErrUnexpectedEOF)
	case v.left == 0 && (v.err == nil || errors.Is(v.err, io.EOF)):
		if v.err = v.finish(); v.err != nil {
			return 0, v.err
		}
		v.err = io.EOF
	}
	return n, v.err
}

// finish checks what can be checked at the end.
func (v *VerifiedReader) finish() error {
	if n, err := io.ReadFull(v.r, make([]byte, 1)); n > 0 {
		return fmt.Errorf("blob %s has more than the %d bytes of its descriptor", v.desc.Digest, v.desc.Size)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, v.hash); got != v.desc.Digest {
		return fmt.Errorf("blob %s: digest mismatch: its content is %s", v.desc.Digest, got)
	}
	return nil
}
