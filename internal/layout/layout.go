// Package layout reads and writes images outside of registries and of mica's store: OCI image layouts (image-spec,
// image-layout.md) in folders and archives, and the archives of docker save.
package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// The kinds of places, as skopeo and podman name them.
const (
	OCI           = "oci"
	OCIArchive    = "oci-archive"
	DockerArchive = "docker-archive"
)

// Location is a place as users write it: "oci:DIR:TAG", "docker-archive:FILE:NAME:TAG".
type Location struct {
	Kind string
	Path string
	Ref  string // a tag or name, "" for none
}

// Parse reads a location; ok is false for what has none of the kinds before it, as the names of registries.
func Parse(s string) (l *Location, ok bool, err error) {
	kind, rest, found := strings.Cut(s, ":")
	if !found || !slices.Contains([]string{OCI, OCIArchive, DockerArchive}, kind) {
		return nil, false, nil
	}
	l = &Location{Kind: kind}
	l.Path, l.Ref, _ = strings.Cut(rest, ":")
	if l.Path == "" {
		return nil, true, fmt.Errorf("%s: a path is needed, as in %s:PATH", s, kind)
	}
	return l, true, nil
}

func (l *Location) String() string {
	if l.Ref == "" {
		return l.Kind + ":" + l.Path
	}
	return l.Kind + ":" + l.Path + ":" + l.Ref
}

// Limits of what a layout may make its reader keep in memory.
const (
	maxJSON    = 4 << 20 // one manifest, config or index
	maxMembers = 100_000
)

// nameAnnotation holds the full name of an image in an index, as containerd and Docker write it.
const nameAnnotation = "io.containerd.image.name"

const dockerManifestName = "manifest.json"

// dockerEntry is an entry of Docker's manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func blobName(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func checkDigest(d digest.Digest) error {
	if d.Validate() != nil {
		return fmt.Errorf("invalid digest %q", d)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %s: only sha256 is supported", d)
	}
	return nil
}

// files are the files of a folder or an archive.
type files interface {
	// open opens a file; fs.ErrNotExist.
	open(name string) (io.ReadCloser, int64, error)
	Close() error
}

// readJSON reads a small file.
func readJSON(f files, name string, into any) ([]byte, error) {
	r, size, err := f.open(name)
	if err != nil {
		return nil, err
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
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return raw, nil
}

// verified reads r and fails at its end if it is not what d says.
func verified(r io.ReadCloser, d ocispec.Descriptor) io.ReadCloser {
	return &verifiedReader{r, content.NewVerifyReader(r, d), d}
}

type verifiedReader struct {
	io.Closer
	v *content.VerifyReader
	d ocispec.Descriptor
}

func (v *verifiedReader) Read(p []byte) (int, error) {
	n, err := v.v.Read(p)
	if errors.Is(err, io.EOF) {
		if bad := v.v.Verify(); bad != nil {
			return n, fmt.Errorf("blob %s is damaged: %w", v.d.Digest, bad)
		}
	}
	return n, err
}

// Open opens the location to read from.
func (l *Location) Open(ctx context.Context, tempDir string) (*Source, error) {
	s, err := l.openSource(ctx, tempDir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	return s, nil
}
