package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/store"
)

// NotFoundError is the error of an image that does not exist, in Docker's words.
type NotFoundError struct{ Ref string }

func (e *NotFoundError) Error() string { return "No such image: " + e.Ref }

// AmbiguousError is the error of a prefix of several IDs.
type AmbiguousError struct{ Prefix string }

func (e *AmbiguousError) Error() string {
	return "multiple IDs found with provided prefix: " + e.Prefix
}

// InvalidReferenceError is the error of a reference that is neither a valid name nor an ID.
type InvalidReferenceError struct {
	Ref string
	Err error
}

func (e *InvalidReferenceError) Error() string {
	return fmt.Sprintf("invalid reference %q: %s", e.Ref, e.Err)
}
func (e *InvalidReferenceError) Unwrap() error { return e.Err }

// Find finds an image as Docker does: by name (the tag defaults to latest), name with digest, ID, or a unique prefix of an ID.
// A name takes precedence over the prefix of an ID. The digest of a manifest or index, or a prefix of it, is taken where no ID is meant: Docker's
// newer image store shows these as IDs.
func (s *Images) Find(ctx context.Context, ref string) (*Image, error) {
	return s.FindFor(ctx, ref, nil)
}

// resolve is Find without reading the image. It also finds damaged images.
func (s *Images) resolve(_ context.Context, ref string) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return none, &InvalidReferenceError{ref, err}
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		if d, ok := parsed.(reference.Digested); ok {
			return s.byDigest(d.Digest(), ref)
		}
		return none, &NotFoundError{ref}
	}
	tagged := reference.TagNameOnly(named)
	if d, ok := named.(reference.Digested); ok {
		return s.byNameAndDigest(named, d.Digest())
	}
	n, err := s.store.Names().Get(tagged.String())
	if err == nil {
		return n.Target, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return none, err
	}
	if target, err := s.byPrefix(ref); err == nil || !isNotFound(err) {
		return target, err
	}
	return none, &NotFoundError{reference.FamiliarString(tagged)}
}

// resolveHeld is resolve, and holds the result. It resolves again after it has held something: if ref still has the result,
// that was needed when it was held, and Collect keeps it whole.
func (s *Images) resolveHeld(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	target, err := s.resolve(ctx, ref)
	for err == nil && s.store.Hold(store.HeldBlob, target.Digest) {
		target, err = s.resolve(ctx, ref)
	}
	return target, err
}

func isNotFound(err error) bool {
	var nf *NotFoundError
	return errors.As(err, &nf)
}

// byDigest finds an image by its ID or, as Docker's newer image store does, by the digest of its manifest or index.
func (s *Images) byDigest(d digest.Digest, ref string) (ocispec.Descriptor, error) {
	n, err := s.store.Records().Get(d.String())
	if err == nil {
		return n.Target, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return n.Target, err
	}
	records, _ := s.store.Records().ListCached()
	for _, r := range records {
		if r.Target.Digest == d {
			return r.Target, nil
		}
	}
	names, _ := s.store.Names().ListCached()
	for _, n := range names { // an index, which has no record
		if n.Target.Digest == d {
			return n.Target, nil
		}
	}
	return ocispec.Descriptor{}, &NotFoundError{ref}
}

// byNameAndDigest finds the manifest or index with a digest that a name of the repository points at, or that such an index
// lists.
func (s *Images) byNameAndDigest(named reference.Named, d digest.Digest) (ocispec.Descriptor, error) {
	names, _ := s.store.Names().ListCached()
	var indexes []ocispec.Descriptor
	for _, n := range names {
		other, err := reference.ParseNormalizedNamed(n.Ref)
		if err != nil || other.Name() != named.Name() {
			continue
		}
		if n.Target.Digest == d {
			return n.Target, nil
		}
		if oci.IsIndex(n.Target.MediaType) {
			indexes = append(indexes, n.Target)
		}
	}
	for _, target := range indexes {
		there, err := s.present(target)
		if err != nil {
			continue
		}
		for _, child := range there {
			if child.Digest == d {
				return child.Descriptor, nil
			}
			for _, nested := range child.Via {
				if nested.Digest == d {
					return nested, nil
				}
			}
		}
	}
	return ocispec.Descriptor{}, &NotFoundError{reference.FamiliarString(named)}
}

// byPrefix finds the only image whose ID begins with prefix, with or without "sha256:", or else the only one whose manifest or index does.
func (s *Images) byPrefix(prefix string) (ocispec.Descriptor, error) {
	records, _ := s.store.Records().ListCached()
	target, err := onlyOne(prefix, records, func(n store.Name) digest.Digest { return digest.Digest(n.Ref) })
	if !isNotFound(err) {
		return target, err
	}
	names, _ := s.store.Names().ListCached()
	return onlyOne(prefix, slices.Concat(records, names), func(n store.Name) digest.Digest { return n.Target.Digest })
}

// onlyOne finds the target of the names and records of which idOf returns an ID that begins with prefix.
func onlyOne(prefix string, names []store.Name, idOf func(store.Name) digest.Digest) (found ocispec.Descriptor, err error) {
	for _, n := range names {
		if !isIDPrefix(idOf(n), prefix) {
			continue
		}
		if found.Digest != "" && found.Digest != n.Target.Digest {
			return ocispec.Descriptor{}, &AmbiguousError{prefix}
		}
		found = n.Target
	}
	if found.Digest == "" {
		return found, &NotFoundError{prefix}
	}
	return found, nil
}

func isIDPrefix(id digest.Digest, prefix string) bool {
	hex, full := strings.CutPrefix(prefix, "sha256:")
	return (hex != "" || !full) && strings.HasPrefix(id.Encoded(), hex)
}

// Tag gives an image a name. The tag defaults to latest. An image that has the name loses it.
func (s *Images) Tag(ctx context.Context, img *Image, name string) (err error) {
	full, err := fullName(name)
	if err != nil {
		return err
	}
	lock, err := s.store.Lock(ctx, "images")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	// Another process may have removed the image.
	record, err := s.store.Records().Get(img.ID.String())
	if err != nil {
		return &NotFoundError{img.ID.String()}
	}
	root, ids := img.Root, []digest.Digest{img.ID}
	if root.Digest == "" {
		root = record.Target
	}
	if oci.IsIndex(root.MediaType) {
		if _, ids, err = s.described(root); err != nil {
			return err
		}
	}
	return s.store.Names().Set(full, root, ids...)
}

// RepositoryTags returns the full names of all tags of a repository that was named without a tag, nil for any other name.
func (s *Images) RepositoryTags(ctx context.Context, ref string) ([]string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || !reference.IsNameOnly(named) {
		return nil, nil //nolint:nilerr // Find says what is wrong with it
	}
	images, err := s.List(ctx)
	if images == nil && err != nil {
		return nil, err
	}
	var list []string
	for _, img := range images {
		for _, n := range img.Names {
			full, err := reference.ParseNormalizedNamed(n)
			if err == nil && full.Name() == named.Name() {
				list = append(list, full.String())
			}
		}
	}
	return list, nil
}
