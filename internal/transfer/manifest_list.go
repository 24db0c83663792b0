package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/store"
)

// ManifestList is an index of images in registries that the user assembles and then pushes. Until then it is a file in the
// store, refs/manifests/NAME.
type ManifestList struct {
	Name    string      `json:"name"`
	Entries []ListEntry `json:"entries"`
}

// ListEntry is one image of a list. Origin is the repository that has it.
type ListEntry struct {
	Descriptor ocispec.Descriptor `json:"descriptor"`
	Origin     string             `json:"origin"`
}

func listPath(s *store.Store, name reference.Named) string {
	return s.Path("refs", "manifests", store.FileName(name.String()))
}

// LoadList reads a list. The error wraps store.ErrNotFound if there is none.
func LoadList(s *store.Store, name reference.Named) (*ManifestList, error) {
	data, err := os.ReadFile(listPath(s, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("manifest list %s: %w", reference.FamiliarString(name), store.ErrNotFound)
	}
	var l ManifestList
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	if err != nil {
		return nil, fmt.Errorf("manifest list %s: %w", reference.FamiliarString(name), err)
	}
	return &l, nil
}

// Save writes the list.
func (l *ManifestList) Save(s *store.Store) error {
	name, err := reference.ParseNormalizedNamed(l.Name)
	if err != nil {
		return err
	}
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	path := listPath(s, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write manifest list: %w", err)
	}
	return s.WriteFileAtomic(path, data)
}

// RemoveList removes a list.
func RemoveList(s *store.Store, name reference.Named) error { return os.Remove(listPath(s, name)) }

// Add adds an image of a registry, or all images of an index.
func (l *ManifestList) Add(ctx context.Context, c *registry.Client, name reference.Named) error {
	r, err := Inspect(ctx, c, name)
	if err != nil {
		return err
	}
	images, err := r.Images(ctx)
	if err != nil {
		return err
	}
	for _, img := range images {
		d := ocispec.Descriptor{MediaType: img.Target.MediaType, Digest: img.Target.Digest, Size: img.Target.Size}
		if p := img.Config.Platform; p.OS != "" || p.Architecture != "" {
			d.Platform = &p
		}
		entry := ListEntry{d, name.Name()}
		if i := l.find(d.Digest); i >= 0 {
			l.Entries[i] = entry
		} else {
			l.Entries = append(l.Entries, entry)
		}
	}
	return nil
}

func (l *ManifestList) find(d digest.Digest) int {
	return slices.IndexFunc(l.Entries, func(e ListEntry) bool { return e.Descriptor.Digest == d })
}

// Entry returns the entry of an image with a name in its registry.
func (l *ManifestList) Entry(ctx context.Context, c *registry.Client, name reference.Named) (*ListEntry, error) {
	var d digest.Digest
	if by, ok := name.(reference.Digested); ok {
		d = by.Digest()
	} else {
		r, err := Inspect(ctx, c, name)
		if err != nil {
			return nil, err
		}
		d = r.Root.Digest
	}
	i := l.find(d)
	if i < 0 {
		return nil, fmt.Errorf("manifest list %s has no entry for %s", l.Name, reference.FamiliarString(name))
	}
	return &l.Entries[i], nil
}

// Index returns the list as an index. It is Docker's manifest list if all images have Docker's types.
func (l *ManifestList) Index() (ocispec.Descriptor, []byte, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	dockers := 0
	for _, e := range l.Entries {
		index.Manifests = append(index.Manifests, e.Descriptor)
		if e.Descriptor.MediaType == oci.DockerManifest {
			dockers++
		}
	}
	if dockers > 0 && dockers == len(l.Entries) {
		index.MediaType = oci.DockerManifestList
	}
	raw, err := json.MarshalIndent(index, "", "   ")
	d := ocispec.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return d, raw, err
}

// Push pushes the list, and the images that its repository does not have.
func (l *ManifestList) Push(ctx context.Context, c *registry.Client, progress Progress) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	name, err := reference.ParseNormalizedNamed(l.Name)
	if err != nil {
		return none, err
	}
	for _, e := range l.Entries {
		if err := l.pushEntry(ctx, c, name, e, progress); err != nil {
			return none, err
		}
	}
	d, raw, err := l.Index()
	if err != nil {
		return none, err
	}
	repo, err := c.Repository(ctx, name)
	if err != nil {
		return none, err
	}
	err = repo.PutManifest(ctx, &registry.Manifest{Descriptor: d, Raw: raw}, repo.Reference())
	return d, registry.Explain(reference.FamiliarString(name), err)
}

func (l *ManifestList) pushEntry(ctx context.Context, c *registry.Client, to reference.Named, e ListEntry, progress Progress) error {
	origin, err := reference.ParseNormalizedNamed(e.Origin)
	if err != nil || origin.Name() == to.Name() {
		return err
	}
	from, err := reference.WithDigest(origin, e.Descriptor.Digest)
	if err != nil {
		return err
	}
	src, err := OpenSource(ctx, c, from)
	if err != nil {
		return err
	}
	target, err := reference.WithDigest(reference.TrimNamed(to), e.Descriptor.Digest)
	if err != nil {
		return err
	}
	dst, err := OpenDestination(ctx, c, target)
	if err != nil {
		return err
	}
	_, err = Copy(ctx, src, dst, CopyOptions{Progress: progress})
	return err
}
