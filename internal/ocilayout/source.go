package ocilayout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/oci"
)

// Source is a layout, or an archive of docker save, to read. It is safe for concurrent use.
type Source struct {
	location *Location
	files    files
	entries  []entry

	mu     sync.Mutex
	places map[digest.Digest]string // files of blobs with other names than BlobName
	made   map[digest.Digest][]byte // manifests that were made because the archive has none
	graph  *graph                   // nil until it is needed
	root   *ocispec.Descriptor      // nil until it is needed
}

// entry is an image in the list of the location.
type entry struct {
	desc   ocispec.Descriptor // of its manifest or index; zero if the manifest must be made from docker
	names  []string
	tags   []string // of manifest.json
	docker *dockerEntry
}

func newSource(ctx context.Context, l *Location, f files) (*Source, error) {
	s := &Source{location: l, files: f, places: map[digest.Digest]string{}, made: map[digest.Digest][]byte{}}
	if err := s.checkVersion(); err != nil {
		return nil, err
	}
	var index ocispec.Index
	_, err := readJSON(f, ocispec.ImageIndexFile, &index)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	isLayout := err == nil
	if len(index.Manifests) > maxMembers {
		return nil, fmt.Errorf("index.json has more than %d entries", maxMembers)
	}
	for _, d := range index.Manifests {
		s.entries = append(s.entries, entry{desc: d, names: namesOf(d)})
	}
	if l.Kind == DockerArchive {
		return s, s.readDockerManifest(ctx, isLayout)
	}
	if !isLayout {
		return nil, errors.New("not an OCI image layout: it has no index.json")
	}
	return s, nil
}

// checkVersion checks the version of a layout. A layout without a version is accepted.
func (s *Source) checkVersion() error {
	var version ocispec.ImageLayout
	_, err := readJSON(s.files, ocispec.ImageLayoutFile, &version)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && version.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("its image layout has version %q, only %s is supported", version.Version, ocispec.ImageLayoutVersion)
	}
	return err
}

func namesOf(d ocispec.Descriptor) []string {
	var names []string
	for _, n := range []string{d.Annotations[ocispec.AnnotationRefName], d.Annotations[imageNameAnnotation]} {
		if n != "" {
			names = append(names, n)
		}
	}
	return names
}

// Root returns the descriptor of the image with the location's name, or without a name of the only image.
func (s *Source) Root(ctx context.Context) (ocispec.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root != nil {
		return *s.root, nil
	}
	e, err := s.choose(ctx)
	if err == nil && e.docker != nil {
		e.desc, err = s.synthesise(ctx, e.docker)
	}
	if err == nil {
		err = checkDescriptor(e.desc)
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("%s: %w", s.location, err)
	}
	root := plain(e.desc)
	s.root = &root
	return root, nil
}

// choose returns the entry with the location's name, or the only image.
func (s *Source) choose(ctx context.Context) (entry, error) {
	if s.location.Ref == "" && len(s.entries) == 1 {
		return s.entries[0], nil
	}
	if s.location.Ref != "" {
		found := s.named(func(name string) bool { return name == s.location.Ref })
		if len(found) == 0 {
			want := fullName(s.location.Ref)
			found = s.named(func(name string) bool { return fullName(name) == want })
		}
		switch len(found) {
		case 0:
			return entry{}, fmt.Errorf("it has no image named %s%s", s.location.Ref, s.list(s.entries))
		case 1:
			return found[0], nil
		}
		return entry{}, fmt.Errorf("%d images are named %s%s", len(found), s.location.Ref, s.list(found))
	}
	images, err := s.images(ctx)
	if err != nil {
		return entry{}, err
	}
	switch len(images) {
	case 0:
		return entry{}, errors.New("it has no image")
	case 1:
		return images[0], nil
	}
	return entry{}, fmt.Errorf("it has %d images, say which%s", len(images), s.list(images))
}

// named returns the images whose name or digest fits, each once.
func (s *Source) named(fits func(string) bool) []entry {
	var found []entry
	for _, e := range s.entries {
		if slices.ContainsFunc(e.names, fits) || e.docker == nil && fits(e.desc.Digest.String()) {
			found = append(found, e)
		}
	}
	return distinct(found)
}

// images returns the entries that do not refer to another one, each once.
func (s *Source) images(ctx context.Context) ([]entry, error) {
	g, err := s.findGraph(ctx)
	if err != nil {
		return nil, err
	}
	var images []entry
	for _, e := range s.entries {
		if !g.refers[e.desc.Digest] && !oci.IsAttestation(e.desc) {
			images = append(images, e)
		}
	}
	return distinct(images), nil
}

func distinct(list []entry) []entry {
	var all []entry
	for _, e := range list {
		if e.docker != nil || !slices.ContainsFunc(all, func(o entry) bool { return o.docker == nil && o.desc.Digest == e.desc.Digest }) {
			all = append(all, e)
		}
	}
	return all
}

// list returns the end of an error with the images to choose from.
func (s *Source) list(entries []entry) string {
	var names []string
	for _, e := range entries {
		own := e.names
		if len(own) == 0 && e.docker == nil {
			own = []string{e.desc.Digest.String()}
		}
		for _, n := range own {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	const most = 20
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return " (there are: " + strings.Join(names, ", ") + ")"
}

// Exists reports whether the source has a blob. It does not verify the blob, as Fetch does.
func (s *Source) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	r, err := s.open(d)
	if errors.Is(err, errdef.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", s.location, err)
	}
	return true, r.Close()
}

// Fetch opens a blob. The read of its last bytes fails if the content does not match the digest.
func (s *Source) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := s.open(d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.location, err)
	}
	return fetched{contextReader{ctx, r}, r, s.location}, nil
}

// fetched adds the location to errors.
type fetched struct {
	r io.Reader
	io.Closer
	location *Location
}

func (f fetched) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s: %w", f.location, err)
	}
	return n, err
}

func (s *Source) open(d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	s.mu.Lock()
	raw, made := s.made[d.Digest]
	name, placed := s.places[d.Digest]
	s.mu.Unlock()
	if made {
		return verifiedFile{oci.NewVerifiedReader(bytes.NewReader(raw), d), io.NopCloser(nil)}, nil
	}
	if !placed {
		name = BlobName(d.Digest)
	}
	return openBlob(s.files, name, d)
}

// Close closes the files of the source.
func (s *Source) Close() error { return s.files.Close() }
