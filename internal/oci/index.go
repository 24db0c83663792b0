package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An index may list indexes (image-spec, image-index.md). These bound how deep that is followed, and how many are read.
const (
	MaxDepth   = 8
	MaxIndexes = 64
)

// ErrAbsent is what a Read returns of an index that may be missing: it is left out.
var ErrAbsent = errors.New("index is not here")

// Read returns the bytes of an index, verified by its digest.
type Read func(ctx context.Context, d ocispec.Descriptor) ([]byte, error)

// Entry is a manifest that an index lists, or that an index inside it lists.
type Entry struct {
	// Descriptor has the platform of the index that lists it, where it says none of its own.
	ocispec.Descriptor
	// Via are the indexes between the root and the manifest, outermost first.
	Via []ocispec.Descriptor
}

// ParseIndex reads an index. One that says that it is something else is refused: tools that read the same bytes must not
// see another image (CVE-2021-41190).
func ParseIndex(d ocispec.Descriptor, raw []byte) (*ocispec.Index, error) {
	var both struct {
		ocispec.Index
		Config json.RawMessage `json:"config"`
		Layers json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(raw, &both); err != nil {
		return nil, fmt.Errorf("index %s: %w", d.Digest, err)
	}
	if t := both.MediaType; t != "" && !IsIndex(t) {
		return nil, fmt.Errorf("index %s says that its type is %q", d.Digest, t)
	}
	if both.Config != nil || both.Layers != nil {
		return nil, fmt.Errorf("index %s has a config or layers, as a manifest of an image has", d.Digest)
	}
	return &both.Index, nil
}

// Entries lists all that an index lists, in its order, with indexes in it replaced by what they list. An index inside that
// is for another platform than want is not read; nil reads all. What is neither manifest nor index stays in the list.
func Entries(ctx context.Context, root ocispec.Descriptor, read Read, want *ocispec.Platform) ([]Entry, error) {
	w := &walk{read: read, seen: map[digest.Digest]bool{}}
	if want != nil {
		match := platforms.Only(*want)
		w.skip = func(p ocispec.Platform) bool { return !match.Match(p) }
	}
	if err := w.index(ctx, root, nil); err != nil {
		return nil, err
	}
	return w.entries, nil
}

type walk struct {
	read    Read
	skip    func(ocispec.Platform) bool
	seen    map[digest.Digest]bool // indexes: each is read once, so that none can contain itself
	entries []Entry
}

func (w *walk) index(ctx context.Context, d ocispec.Descriptor, via []ocispec.Descriptor) error {
	w.seen[d.Digest] = true
	if len(via) > MaxDepth || len(w.seen) > MaxIndexes {
		return fmt.Errorf("index %s is nested too deeply, or has too many indexes in it: %d levels and %d indexes are followed", d.Digest, MaxDepth, MaxIndexes)
	}
	raw, err := w.read(ctx, d)
	if errors.Is(err, ErrAbsent) && len(via) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	index, err := ParseIndex(d, raw)
	if err != nil {
		return err
	}
	for _, e := range index.Manifests {
		if e.Platform == nil {
			e.Platform = d.Platform
		}
		if !IsIndex(e.MediaType) {
			w.entries = append(w.entries, Entry{e, via})
			continue
		}
		if w.seen[e.Digest] || w.skip != nil && e.Platform != nil && w.skip(*e.Platform) {
			continue
		}
		if err := w.index(ctx, e, append(via[:len(via):len(via)], e)); err != nil {
			return err
		}
	}
	return nil
}

// IsImage reports whether an entry of an index may be an image: it is a manifest, and no attestation.
func IsImage(d ocispec.Descriptor) bool { return IsManifest(d.MediaType) && !IsAttestation(d) }

// Choose returns, of an index's entries, the best image for a platform; ok is false where none fits. Without a platform it
// is the one for this host, or the only one if that does not say what it is for.
func Choose(list []Entry, want *ocispec.Platform) (best Entry, ok bool) {
	if best, ok = fitting(list, want); ok || want != nil {
		return best, ok
	}
	images := slices.DeleteFunc(slices.Clone(list), func(e Entry) bool { return !IsImage(e.Descriptor) })
	if len(images) == 1 && images[0].Platform == nil {
		return images[0], true
	}
	return Entry{}, false
}

// fitting returns the best of the images that say that they are for a platform, nil for this host's.
func fitting(list []Entry, want *ocispec.Platform) (best Entry, ok bool) {
	match := platforms.Default()
	if want != nil {
		match = platforms.Only(*want)
	}
	for _, e := range list {
		if !IsImage(e.Descriptor) || e.Platform == nil || !match.Match(*e.Platform) {
			continue
		}
		if !ok || match.Less(*e.Platform, *best.Platform) {
			best, ok = e, true
		}
	}
	return best, ok
}

// Find returns the image for a platform in an index, nil for this host's; *NoPlatformError. Indexes inside it are read only
// where it does not list such an image itself.
func Find(ctx context.Context, root ocispec.Descriptor, read Read, want *ocispec.Platform) (Entry, error) {
	near := want
	if near == nil {
		host := platforms.DefaultSpec()
		near = &host
	}
	if own, err := Entries(ctx, root, shallow(root, read), near); err != nil {
		return Entry{}, err
	} else if e, ok := fitting(own, want); ok {
		return e, nil
	}
	list, err := Entries(ctx, root, read, near)
	if err != nil {
		return Entry{}, err
	}
	if e, ok := Choose(list, want); ok {
		return e, nil
	}
	return Entry{}, NoPlatform(*near, list)
}

// shallow reads one index and none inside it.
func shallow(root ocispec.Descriptor, read Read) Read {
	return func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
		if d.Digest != root.Digest {
			return nil, ErrAbsent
		}
		return read(ctx, d)
	}
}

// NoPlatformError says that an index has no image for a platform.
type NoPlatformError struct {
	Platform string
	Have     []string
}

func (e *NoPlatformError) Error() string {
	return fmt.Sprintf("no matching manifest for %s in the manifest list entries: it has %v", e.Platform, e.Have)
}

// maxNamed is how many platforms an error names.
const maxNamed = 50

// NoPlatform is the error for a platform that none of the entries is for.
func NoPlatform(want ocispec.Platform, list []Entry) *NoPlatformError {
	e := &NoPlatformError{Platform: platforms.Format(want)}
	for _, d := range list {
		if d.Platform != nil && !IsAttestation(d.Descriptor) && len(e.Have) < maxNamed {
			e.Have = append(e.Have, platforms.Format(*d.Platform))
		}
	}
	return e
}
