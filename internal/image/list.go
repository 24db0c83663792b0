package image

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// List returns all images, newest first. One whose manifest, config or layers are damaged is left out, and named in the
// error that comes with the others.
func (s *Images) List(ctx context.Context) ([]*Image, error) {
	records, recErr := s.store.Records().List()
	names, nameErr := s.store.Names().List()
	images, errs := make([]*Image, len(records)), make([]error, len(records))
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
				img.setNames(names)
				images[i] = img
			}
			return nil
		})
	}
	_ = eg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	images = slices.DeleteFunc(images, func(i *Image) bool { return i == nil })
	slices.SortStableFunc(images, func(a, b *Image) int { return b.created().Compare(a.created()) })
	return images, errors.Join(append(errs, recErr, nameErr)...)
}
