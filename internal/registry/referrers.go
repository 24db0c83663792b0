package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
)

// Referrers lists the manifests whose subject is d, each once (distribution-spec, "Listing Referrers").
func (r *Repository) Referrers(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	err := r.remote.Referrers(ctx, d, "", func(page []ocispec.Descriptor) error {
		before := len(list)
		for _, m := range page {
			if err := oci.CheckDescriptor(m); err != nil {
				return fmt.Errorf("referrers of %s: %w", d.Digest, err)
			}
			if !seen[m.Digest] {
				seen[m.Digest] = true
				list = append(list, m)
			}
		}
		switch {
		case len(list) > maxReferring:
			return fmt.Errorf("manifest %s has more than %d referrers", d.Digest, maxReferring)
		case len(list) == before:
			return errors.New("the registry's list of referrers goes in circles: a page has nothing that was not listed before")
		}
		return nil
	})
	return list, err
}
