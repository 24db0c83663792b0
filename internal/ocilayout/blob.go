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

// Limits of what others may make mica keep in memory.
const (
	maxJSON    = oci.MaxDocument // one manifest, config or index
	maxAllJSON = 64 << 20        // all that are read at a time, and the names in an archive
	maxMembers = 100_000
)

// BlobName returns the name of the file that has a blob's content (image-spec, image-layout.md, "Blobs").
func BlobName(d digest.Digest) string {
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

func isJSON(mediaType string) bool {
	return oci.IsManifestOrIndex(mediaType) || oci.IsImageConfig(mediaType)
}

// missingError says that a file is missing.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what + " is missing" }

// Is reports that this is the error that package oras or io/fs has for it.
func (e *missingError) Is(target error) bool {
	return target == errdef.ErrNotFound || target == fs.ErrNotExist
}

// cleanName makes the name of a file in a layout relative and clean; one that leads outside is refused.
func cleanName(name string) (string, error) {
	clean := strings.TrimPrefix(path.Clean(name), "/")
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("%q is outside of it", name)
	}
	return clean, nil
}

// files are the files of a directory or archive.
type files interface {
	// open opens a file. A missing one is fs.ErrNotExist.
	open(name string) (r io.ReadCloser, size int64, err error)
	Close() error
}

// readJSON reads a small file whole.
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

// verifiedFile is a blob's file that is read with verification.
type verifiedFile struct {
	*oci.VerifiedReader
	io.Closer
}

// openBlob opens the blob in file name.
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
