// Package ocilayout reads and writes images in files: OCI image layouts (image-spec, image-layout.md) in a directory or a tar,
// and archives of docker save.
package ocilayout

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// The kinds of locations, with the names that skopeo and podman use.
const (
	OCI           = "oci"
	OCIArchive    = "oci-archive"
	DockerArchive = "docker-archive"
)

// Location is a location as users write it: oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:NAME[:TAG]].
type Location struct {
	Kind string // OCI, OCIArchive or DockerArchive
	Path string
	Ref  string // "" for none
	Text string // the location as the user wrote it, if not in the form of String
}

// Parse parses a location. ok is false if s begins with no kind of location: it is the name of an image in a registry.
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
		return nil, true, fmt.Errorf("%q has no name after the colon", s)
	}
	return &Location{Kind: kind, Path: path, Ref: ref}, true, nil
}

// String returns the location as users write it.
func (l *Location) String() string {
	if l.Text != "" {
		return l.Text
	}
	if l.Ref == "" {
		return l.Kind + ":" + l.Path
	}
	return l.Kind + ":" + l.Path + ":" + l.Ref
}

// Open opens a location to read. A compressed archive is decompressed to a file without a name in tempDir.
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

// CreateOptions are the options of Create. The zero value is for an image without a name.
type CreateOptions struct {
	Name    string // the full name of the image, "" for none
	Scratch bool   // files of a directory are not synced to disk
	Shared  bool   // the directory may have other files
}

// Create opens a location to write.
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
