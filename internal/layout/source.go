package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
)

// Source is a layout to copy an image from.
type Source struct {
	files files
	index ocispec.Index
	ref   string
	// made are blobs that are not in the layout but follow from it: manifests of Docker's archives.
	made map[digest.Digest][]byte
	// names are where blobs stand that have no place of their own.
	names     map[digest.Digest]string
	referrers map[digest.Digest][]ocispec.Descriptor // by subject
}

func (l *Location) openSource(ctx context.Context, tempDir string) (*Source, error) {
	var f files
	var err error
	if l.Kind == OCI {
		f, err = openFolder(l.Path)
	} else {
		f, err = openArchive(ctx, l.Path, tempDir)
	}
	if err != nil {
		return nil, plainError(err)
	}
	s := &Source{
		files: f, ref: l.Ref, made: map[digest.Digest][]byte{}, names: map[digest.Digest]string{},
		referrers: map[digest.Digest][]ocispec.Descriptor{},
	}
	_, err = readJSON(f, ocispec.ImageIndexFile, &s.index)
	if errors.Is(err, fs.ErrNotExist) && l.Kind == DockerArchive {
		err = s.readDocker(ctx)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("it is no image layout: it has no index.json")
	}
	if err == nil {
		err = s.findReferrers()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// plainError takes what users did not type off an error.
func plainError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// findReferrers reads which of the listed manifests refer to others.
func (s *Source) findReferrers() error {
	if len(s.index.Manifests) > maxMembers {
		return fmt.Errorf("index.json has more than %d entries", maxMembers)
	}
	for _, d := range s.index.Manifests {
		if err := checkDigest(d.Digest); err != nil {
			return err
		}
		var m struct {
			Subject *ocispec.Descriptor `json:"subject"`
		}
		if s.made[d.Digest] != nil || !image.IsManifest(d.MediaType) && !image.IsIndex(d.MediaType) {
			continue
		}
		if _, err := readJSON(s.files, blobName(d.Digest), &m); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if m.Subject != nil {
			s.referrers[m.Subject.Digest] = append(s.referrers[m.Subject.Digest], d)
		}
	}
	return nil
}

// Root is the manifest or index of the name that was given, or the only one there is.
func (s *Source) Root(context.Context) (ocispec.Descriptor, error) {
	var found, all []ocispec.Descriptor
	var names []string
	for _, d := range s.index.Manifests {
		if s.refers(d) || image.IsAttestation(d) {
			continue
		}
		if !slices.ContainsFunc(all, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
			all = append(all, d)
		}
		for _, n := range []string{d.Annotations[ocispec.AnnotationRefName], d.Annotations[nameAnnotation]} {
			if n != "" && !slices.Contains(names, n) {
				names = append(names, n)
			}
			if n != "" && sameName(n, s.ref) {
				found = append(found, d)
			}
		}
	}
	switch {
	case s.ref == "" && len(all) == 1:
		return plain(all[0]), nil
	case s.ref == "":
		return ocispec.Descriptor{}, fmt.Errorf("it has %d images, one of which must be named: %s", len(all), strings.Join(names, ", "))
	case len(found) == 0:
		return ocispec.Descriptor{}, fmt.Errorf("it has no image named %s; it has: %s", s.ref, strings.Join(names, ", "))
	}
	return plain(found[0]), nil
}

// sameName compares the names of images, completed as Docker does, and tags.
func sameName(have, want string) bool { return have == want || fullName(have) == fullName(want) }

func (s *Source) refers(d ocispec.Descriptor) bool {
	for _, list := range s.referrers {
		if slices.ContainsFunc(list, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
			return true
		}
	}
	return false
}

// plain is a descriptor without what an index says about it.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}
}

// Predecessors lists what refers to a manifest.
func (s *Source) Predecessors(_ context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return s.referrers[d.Digest], nil
}

// Exists reports whether a blob is there.
func (s *Source) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	r, err := s.open(d)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.Close()
}

// Fetch opens a blob. The read that would end it fails where its content is not what its digest says.
func (s *Source) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := s.open(d)
	if err != nil {
		return nil, err
	}
	return verified(r, d), nil
}

func (s *Source) open(d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDigest(d.Digest); err != nil {
		return nil, err
	}
	if raw, ok := s.made[d.Digest]; ok {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	name, ok := s.names[d.Digest]
	if !ok {
		name = blobName(d.Digest)
	}
	r, size, err := s.files.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("it lacks the blob %s: %w", d.Digest, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	if size != d.Size {
		return nil, errors.Join(fmt.Errorf("blob %s has %d bytes, not the %d of its descriptor", d.Digest, size, d.Size), r.Close())
	}
	return r, nil
}

// Close frees what the source holds.
func (s *Source) Close() error { return s.files.Close() }
