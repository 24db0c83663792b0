package image

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// List returns all images, newest first. An image for another platform is left out if it belongs to an index with the image
// for this host and has no name. Damaged images are left out too: the error, which comes with the other images, names them.
func (s *Images) List(ctx context.Context) ([]*Image, error) {
	images, parts, err := s.list(ctx)
	return slices.DeleteFunc(images, func(i *Image) bool {
		return parts[i.ID] && len(i.Names) == 0 && len(i.Digests) == 0
	}), err
}

// list returns all images, and those that belong to an index but are not its image for this host.
func (s *Images) list(ctx context.Context) (images []*Image, parts map[digest.Digest]bool, err error) {
	records, recErr := s.store.Records().ListCached()
	names, nameErr := s.store.Names().ListCached()
	by := bearers(names)
	errs := make([]error, len(records))
	images, parts = make([]*Image, len(records)), map[digest.Digest]bool{}
	roots := map[digest.Digest]ocispec.Descriptor{}
	for _, n := range names {
		for i, id := range n.Images {
			if i == 0 {
				roots[id] = n.Target
			} else {
				parts[id] = true
			}
		}
	}
	var eg errgroup.Group
	eg.SetLimit(runtime.NumCPU())
	for i, r := range records {
		eg.Go(func() error {
			img, err := s.load(r.Target)
			switch {
			case err != nil:
				errs[i] = fmt.Errorf("image %s: %w", r.Ref, err)
			case img.ID.String() != r.Ref:
				errs[i] = fmt.Errorf("image %s: its record is damaged", r.Ref)
			default:
				img.setNames(by)
				if root, ok := roots[img.ID]; ok {
					img.Root = root
				}
				images[i] = img
			}
			return nil
		})
	}
	_ = eg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	images = slices.DeleteFunc(images, func(i *Image) bool { return i == nil })
	slices.SortStableFunc(images, func(a, b *Image) int { return b.Created().Compare(a.Created()) })
	return images, parts, errors.Join(append(errs, recErr, nameErr)...)
}
