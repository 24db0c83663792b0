package control

import (
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
)

// maxShown is how many blobs of the store clients can read.
const maxShown = 1 << 16

// shown are the blobs of the store that clients can read: the manifests that records name, and what those that were read list. Others are not
// the clients' business: images of the registries that other clients may read, for one.
type shown struct {
	mu    sync.Mutex
	types map[digest.Digest]string // media types
	order []digest.Digest          // oldest first
}

func (s *shown) add(list ...ocispec.Descriptor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.types == nil {
		s.types = map[digest.Digest]string{}
	}
	for _, d := range list {
		if _, ok := s.types[d.Digest]; ok {
			continue
		}
		s.types[d.Digest] = d.MediaType
		s.order = append(s.order, d.Digest)
		if len(s.order) > maxShown {
			delete(s.types, s.order[0])
			s.order = s.order[1:]
		}
	}
}

func (s *shown) find(d digest.Digest) (mediaType string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mediaType, ok = s.types[d]
	return mediaType, ok
}

// listed returns what a manifest or an index lists. What another blob has is its author's choice: it lists nothing.
func listed(d ocispec.Descriptor, raw []byte) []ocispec.Descriptor {
	switch {
	case oci.IsIndex(d.MediaType):
		if index, err := oci.ParseIndex(d, raw); err == nil {
			return index.Manifests
		}
	case oci.IsManifest(d.MediaType):
		if m, err := oci.ParseManifest(d.Digest, raw); err == nil {
			return append(m.Layers, m.Config)
		}
	}
	return nil
}
