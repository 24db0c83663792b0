package ocilayout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Limits of the memory that an image can take, in bytes and in files of an archive.
const (
	maxJSON    = oci.MaxDocument // one manifest, config or index
	maxAllJSON = 64 << 20        // all manifests, configs and indexes, and all names in an archive
	maxMembers = 100_000
)

// BlobName returns the name of the file that has a blob's content (image-spec, image-layout.md, "Blobs").
func BlobName(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// checkDescriptor checks that a descriptor is valid, supported and within limits.
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
		return fmt.Errorf("blob %s: invalid size %d", d.Digest, d.Size)
	}
	if isJSON(d.MediaType) && d.Size > maxJSON {
		return fmt.Errorf("blob %s has %d bytes, the limit for a manifest or config is %d: %w", d.Digest, d.Size, maxJSON, errdef.ErrSizeExceedsLimit)
	}
	return nil
}

func isJSON(mediaType string) bool {
	return oci.IsManifestOrIndex(mediaType) || oci.IsImageConfig(mediaType)
}

// missingError is the error of a missing file.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what + " is missing" }

// Is makes it the errors of package oras and of io/fs for missing content.
func (e *missingError) Is(target error) bool {
	return target == errdef.ErrNotFound || target == fs.ErrNotExist
}

// cleanName returns the relative, clean name of a file in a layout. A name outside of the layout is an error.
func cleanName(name string) (string, error) {
	clean := strings.TrimPrefix(path.Clean(name), "/")
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("%q is outside of the layout", name)
	}
	return clean, nil
}

// files are the files of a directory or archive.
type files interface {
	// open opens a file. The error of a missing file is fs.ErrNotExist.
	open(name string) (r io.ReadCloser, size int64, err error)
	Close() error
}

// readJSON reads and parses a small file.
func readJSON(f files, name string, into any) ([]byte, error) {
	r, size, err := f.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &missingError{name}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { _ = r.Close() }()
	if size > maxJSON {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", name, size, maxJSON)
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

// verifiedFile is the file of a blob. Reading verifies it.
type verifiedFile struct {
	*oci.VerifiedReader
	io.Closer
}

// openBlob opens a blob, which is in the file name.
func openBlob(f files, name string, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	r, size, err := f.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &missingError{"blob " + d.Digest.String()}
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if size != d.Size {
		_ = r.Close()
		return nil, fmt.Errorf("blob %s has %d bytes, not the %d of its descriptor", d.Digest, size, d.Size)
	}
	return verifiedFile{oci.NewVerifiedReader(r, d), r}, nil
}

// contextReader fails when its context ends.
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

// reason removes the call and path, which the user did not write, from an error of the operating system.
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
