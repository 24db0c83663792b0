// Package ocilayout reads and writes images outside of registries and of the store: OCI
// image layouts (image-spec, image-layout.md) in a directory or a tar, and the archives of docker save.
package ocilayout

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// The kinds of locations, by the names that skopeo and podman gave them.
const (
	OCI           = "oci"
	OCIArchive    = "oci-archive"
	DockerArchive = "docker-archive"
)

// Location is a place as users write it: oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:NAME[:TAG]].
type Location struct {
	Kind string // OCI, OCIArchive or DockerArchive
	Path string
	Ref  string // "" for none
	Text string // the location as its user wrote it, where that is in another form than String returns
}

// Parse splits a location into its parts. ok is false for what begins like none, which is the name of a registry's image.
func Parse(s string) (l *Location, ok bool, err error) {
	kind, rest, found := strings.Cut(s, ":")
	if !found || !slices.Contains([]string{OCI, OCIArchive, DockerArchive}, kind) {
		return nil, false, nil
	}
	path, ref, named := strings.Cut(rest, ":")
	if path == "" {
		return nil, true, fmt.Errorf("%q has no path: write %s:PATH", s, kind)
	}
	if named && ref == "" {
		return nil, true, fmt.Errorf("%q ends where a name is due", s)
	}
	return &Location{Kind: kind, Path: path, Ref: ref}, true, nil
}

// String is the location as users write it.
func (l *Location) String() string {
	if l.Text != "" {
		return l.Text
	}
	if l.Ref == "" {
		return l.Kind + ":" + l.Path
	}
	return l.Kind + ":" + l.Path + ":" + l.Ref
}

// Open opens a location to read from. What it must decompress goes to a file in tempDir without a name.
func (l *Location) Open(ctx context.Context, tempDir string) (*Source, error) {
	s, err := l.open(ctx, tempDir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	return s, nil
}

func (l *Location) open(ctx context.Context, tempDir string) (*Source, error) {
	var f files
	var err error
	if l.Kind == OCI {
		f, err = openDirectory(l.Path)
	} else {
		f, err = openArchive(ctx, l.Path, tempDir)
	}
	if err != nil {
		return nil, err
	}
	s, err := newSource(ctx, l, f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

// CreateOptions say how a location is written. The zero value is right for an image without a name.
type CreateOptions struct {
	Name    string // the full name of the image, "" for none
	Scratch bool   // nothing need outlive the machine: files of a directory are not synced
	Shared  bool   // the directory may have other files
}

// Create prepares a location to be written.
func (l *Location) Create(_ context.Context, o CreateOptions) (*Destination, error) {
	d, err := l.create(o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	return d, nil
}

func (l *Location) create(o CreateOptions) (*Destination, error) {
	n, err := l.entryName(o.Name)
	if err != nil {
		return nil, err
	}
	d := &Destination{location: l, name: n, digests: newDigests()}
	if l.Kind == OCI {
		d.writer, err = newDirectoryWriter(l.Path, o)
	} else {
		d.writer, err = newArchiveWriter(l.Path)
	}
	return d, err
}
