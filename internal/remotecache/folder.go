package remotecache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/client/ociindex"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Folder is a cache of type local: a folder of the host in OCI's layout, whose index names the cache (client/solve.go,
// parseCacheOptions).
type Folder struct{ dir string }

// NewFolder is the cache in dir, which need not be there yet.
func NewFolder(dir string) *Folder { return &Folder{dir} }

// Dir is where the cache is.
func (f *Folder) Dir() string { return f.dir }

// DefaultTag is the name of a cache that is given none.
const DefaultTag = "latest"

// Root finds the cache that has a tag.
func (f *Folder) Root(tag string) (ocispec.Descriptor, error) {
	d, err := ociindex.NewStoreIndex(f.dir).Get(tag)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if d == nil {
		return ocispec.Descriptor{}, fmt.Errorf("%s has no cache %q", f.dir, tag)
	}
	return *d, nil
}

func (f *Folder) path(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%q: %w", string(d), err)
	}
	return filepath.Join(f.dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), nil
}

// Open implements Place.
func (f *Folder) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	path, err := f.path(d.Digest)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Has reports whether a blob is there.
func (f *Folder) Has(d ocispec.Descriptor) bool {
	path, err := f.path(d.Digest)
	if err != nil {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Size() == d.Size
}

// Write stores what write writes as a blob, and describes it, but for its type.
func (f *Folder) Write(write func(io.Writer) error) (d ocispec.Descriptor, err error) {
	blobs := filepath.Join(f.dir, ocispec.ImageBlobsDir, digest.SHA256.String())
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return d, err
	}
	t, err := os.CreateTemp(f.dir, "blob-")
	if err != nil {
		return d, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(t.Name()))
		}
	}()
	hash := digest.SHA256.Digester()
	err = write(io.MultiWriter(t, hash.Hash()))
	if err == nil {
		d.Size, err = t.Seek(0, io.SeekCurrent)
	}
	if err = errors.Join(err, t.Chmod(0o644), t.Close()); err != nil {
		return d, err
	}
	d.Digest = hash.Digest()
	return d, os.Rename(t.Name(), filepath.Join(blobs, d.Digest.Encoded()))
}

// Put stores a cache, whose layers are stored, and gives it a tag.
func (f *Folder) Put(x *Exported, tag string) error {
	for _, data := range [][]byte{x.Config, x.Manifest} {
		_, err := f.Write(func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
		if err != nil {
			return err
		}
	}
	return ociindex.NewStoreIndex(f.dir).Put(x.ManifestDescriptor, ociindex.Tag(tag))
}
