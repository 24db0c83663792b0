package ocilayout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/oci"
)

// graph has the referrers of the manifests of a layout.
type graph struct {
	referrers map[digest.Digest][]ocispec.Descriptor // by subject
	refers    map[digest.Digest]bool                 // manifests with a subject
}

// manifest has the fields of a manifest or index that this package needs.
type manifest struct {
	ArtifactType string               `json:"artifactType"`
	Config       ocispec.Descriptor   `json:"config"`
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
	Annotations  map[string]string    `json:"annotations"`
}

// asReferrer returns the descriptor of a manifest in a list of referrers (distribution-spec, "Listing Referrers").
func (m *manifest) asReferrer(d ocispec.Descriptor) ocispec.Descriptor {
	d = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations}
	if d.ArtifactType == "" && oci.IsManifest(d.MediaType) {
		d.ArtifactType = m.Config.MediaType
	}
	return d
}

// Predecessors returns the manifests whose subject is d. Indexes that list d are not among them.
func (s *Source) Predecessors(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.findGraph(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.location, err)
	}
	return slices.Clone(g.referrers[d.Digest]), nil
}

// findGraph reads the manifests once. Referrers are in index.json itself, or in an index that it lists (distribution-spec,
// "Referrers Tag Schema"). The caller holds s.mu.
func (s *Source) findGraph(ctx context.Context) (*graph, error) {
	if s.graph != nil {
		return s.graph, nil
	}
	g := &graph{referrers: map[digest.Digest][]ocispec.Descriptor{}, refers: map[digest.Digest]bool{}}
	w := s.newWalker()
	for _, e := range s.entries {
		if e.docker != nil {
			continue
		}
		err := w.walk(ctx, e.desc, 0, func(d ocispec.Descriptor, m *manifest) {
			if m.Subject != nil {
				g.refers[d.Digest] = true
				g.referrers[m.Subject.Digest] = append(g.referrers[m.Subject.Digest], m.asReferrer(d))
			}
		})
		if err != nil {
			return nil, err
		}
	}
	s.graph = g
	return g, nil
}

// walker reads manifests and indexes, and the manifests in indexes, each once.
type walker struct {
	s    *Source
	seen map[digest.Digest]bool
	read int64
}

func (s *Source) newWalker() *walker { return &walker{s: s, seen: map[digest.Digest]bool{}} }

func (w *walker) walk(ctx context.Context, d ocispec.Descriptor, depth int, visit func(ocispec.Descriptor, *manifest)) error {
	if w.seen[d.Digest] || !oci.IsManifestOrIndex(d.MediaType) || depth > oci.MaxDepth {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.seen[d.Digest] = true
	if w.read += d.Size; w.read > maxAllJSON || len(w.seen) > maxMembers {
		return fmt.Errorf("it has more than %d manifests, or more than %d bytes of them", maxMembers, maxAllJSON)
	}
	m, err := w.s.readManifest(d)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil // an index may list platforms that are missing
	}
	if err != nil {
		return err
	}
	visit(d, m)
	for _, sub := range m.Manifests {
		if err := w.walk(ctx, sub, depth+1, visit); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) readManifest(d ocispec.Descriptor) (*manifest, error) {
	raw, err := s.Document(d)
	if err != nil {
		return nil, err
	}
	return parseManifest(d, raw)
}

func parseManifest(d ocispec.Descriptor, raw []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest %s is damaged: %w", d.Digest, err)
	}
	return &m, nil
}
