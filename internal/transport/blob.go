package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/oci"
)

// Limits of what others may make mica keep in memory.
const (
	maxJSON    = 4 << 20  // one manifest, config or index
	maxAllJSON = 64 << 20 // all that are read at a time, and the names in an archive
	maxMembers = 100_000
)

// blobName is where a blob lies in a layout.
func blobName(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// checkDescriptor refuses what cannot name a blob.
func checkDescriptor(d ocispec.Descriptor) error {
	err := d.Digest.Validate()
	algorithm, _, _ := strings.Cut(d.Digest.String(), ":")
	if errors.Is(err, digest.ErrDigestUnsupported) || err == nil && algorithm != digest.SHA256.String() {
		return fmt.Errorf("blob %s: digests by %s are not supported, only sha256: %w", d.Digest, algorithm, errdef.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("blob %q: %w", d.Digest, errdef.ErrInvalidDigest)
	}
	if d.Size < 0 {
		return fmt.Errorf("blob %s: its size is to be %d bytes", d.Digest, d.Size)
	}
	if isJSON(d.MediaType) && d.Size > maxJSON {
		return fmt.Errorf("blob %s has %d bytes, more than the %d that a manifest or config may have: %w", d.Digest, d.Size, maxJSON, errdef.ErrSizeExceedsLimit)
	}
	return nil
}

// isManifest is true of an image's manifest and of an index.
func isManifest(mediaType string) bool {
	return oci.IsManifest(mediaType) || oci.IsIndex(mediaType)
}

func isJSON(mediaType string) bool { return isManifest(mediaType) || oci.IsImageConfig(mediaType) }

// cleanName makes the name of a file in a layout relative and clean; one that leads outside is refused.
func cleanName(name string) (string, error) {
	clean := strings.TrimPrefix(path.Clean(name), "/")
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("%q is outside of it", name)
	}
	return clean, nil
}

// files are the files of a folder or archive.
type files interface {
	// open opens a file. A missing one is fs.ErrNotExist.
	open(name string) (r io.ReadCloser, size int64, err error)
	Close() error
}

// readJSON reads a small file whole.
func readJSON(f files, name string, into any) ([]byte, error) {
	r, size, err := f.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("it has no %s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { _ = r.Close() }()
	if size > maxJSON {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that it may have", name, size, maxJSON)
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxJSON))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", name, err)
	}
	return raw, nil
}

// verifying reads a blob. Its last bytes are given out only when all are known to be right, so that nobody who counts
// bytes, as those do who send a blob on, takes a wrong one for whole.
type verifying struct {
	r    io.Reader
	desc ocispec.Descriptor
	hash hash.Hash
	left int64
	err  error
}

func newVerifying(r io.Reader, d ocispec.Descriptor) *verifying {
	return &verifying{r: r, desc: d, hash: digest.SHA256.Hash(), left: d.Size}
}

func (v *verifying) Read(p []byte) (int, error) {
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
func (v *verifying) finish() error {
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

// verifiedFile is a blob's file that is read with verification.
type verifiedFile struct {
	*verifying
	io.Closer
}

// openBlob opens the blob in file name.
func openBlob(f files, name string, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	r, size, err := f.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("it has no blob %s: %w", d.Digest, errdef.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if size != d.Size {
		_ = r.Close()
		return nil, fmt.Errorf("blob %s has %d bytes, not the %d of its descriptor", d.Digest, size, d.Size)
	}
	return verifiedFile{newVerifying(r, d), r}, nil
}

// contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// reason leaves out of an error of the operating system the call and path, which users did not write.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}
