package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/micabuild/mica/internal/store"
)

// Removed is one line of `docker rmi`: "Untagged: nginx:latest" or "Deleted: sha256:…". Its JSON is Docker's.
type Removed struct {
	Untagged string `json:",omitempty"`
	Deleted  string `json:",omitempty"`
}

// ConflictError is the error of an image that cannot be removed.
type ConflictError struct {
	Reason string
	Used   digest.Digest // the image, if a container uses it
}

func (e *ConflictError) Error() string { return "conflict: " + e.Reason }

// usedLock returns the name of a lock. Processes that run an image hold it shared.
func usedLock(id digest.Digest) string { return "image-" + id.Encoded() }

// Hold protects an image from removal until the lock is released.
func (s *Images) Hold(ctx context.Context, img *Image) (*store.Lock, error) {
	lock, err := s.store.RLock(ctx, usedLock(img.ID))
	if err != nil {
		return nil, err
	}
	if _, err := s.store.Records().Get(img.ID.String()); err != nil {
		if errors.Is(err, store.ErrNotFound) { // removed before the lock was taken
			err = &NotFoundError{img.ID.String()}
		}
		return nil, errors.Join(err, lock.Unlock())
	}
	return lock, nil
}

// Remove does what `docker rmi ref` does. It removes a name, and with its last name the image. By ID it removes an image that
// has at most one name, or with force any image. The next Collect discards the blobs and layers that no image needs.
func (s *Images) Remove(ctx context.Context, ref string, force bool) ([]Removed, error) {
	return s.remove(ctx, ref, force, func(*removal) (bool, error) { return true, nil })
}

// remove is Remove with a condition, which it tests under the lock of names.
func (s *Images) remove(ctx context.Context, ref string, force bool, unwanted func(*removal) (bool, error)) (_ []Removed, err error) {
	lock, err := s.store.Lock(ctx, "images")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	r, err := s.removal(ctx, ref, force)
	if errors.Is(err, store.ErrDamaged) {
		return s.removeDamaged(ref, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.release()) }()
	if ok, err := unwanted(r); err != nil || !ok {
		return nil, err
	}
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	return r.lines, nil
}

// removal is the state of one Remove.
type removal struct {
	s        *Images
	id       digest.Digest
	manifest digest.Digest // or index
	chain    []digest.Digest
	all      []store.Name
	names    []store.Name // of the image, by digest too
	given    string       // the full name that was given, "" for an ID
	force    bool
	lines    []Removed
	used     []*store.Lock // held from checkUse until the records are removed
}

func (s *Images) removal(ctx context.Context, ref string, force bool) (*removal, error) {
	target, err := s.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	r := &removal{s: s, manifest: target.Digest, force: force}
	var recorded digest.Digest // the manifest of the image's record
	records, _ := s.store.Records().List()
	for _, rec := range records {
		if rec.Target.Digest == target.Digest {
			r.id = digest.Digest(rec.Ref)
		}
	}
	if img, err := s.load(target); err == nil {
		r.chain = img.Chain()
		if s.recorded(img) {
			r.id = img.ID
		}
	}
	if rec, err := s.store.Records().Get(r.id.String()); err == nil {
		recorded = rec.Target.Digest
	}
	r.all, _ = s.store.Names().List()
	for _, n := range r.all {
		if len(n.Images) > 0 && n.Images[0] == r.id || len(n.Images) == 0 && (n.Target.Digest == target.Digest || n.Target.Digest == recorded) {
			r.names = append(r.names, n)
		}
	}
	// As in Find, a name takes precedence over the prefix of an ID.
	given, err := s.givenName(ref, r.names)
	isName := slices.ContainsFunc(r.names, func(n store.Name) bool { return n.Ref == given })
	byID := r.id != "" && isIDPrefix(r.id, ref) || isIDPrefix(r.manifest, ref)
	if isName || !byID {
		r.given = given
		return r, err
	}
	return r, r.checkWhole()
}

// removeDamaged removes the file of a name or record that cannot be read.
func (s *Images) removeDamaged(ref string, damage error) ([]Removed, error) {
	if full, err := fullName(ref); err == nil {
		if _, err := s.store.Names().Get(full); errors.Is(err, store.ErrDamaged) {
			return []Removed{{Untagged: familiar(full)}}, s.store.Names().Remove(full)
		}
	}
	id := ref
	if !strings.Contains(id, ":") {
		id = "sha256:" + id
	}
	if digest.Digest(id).Validate() != nil {
		return nil, damage
	}
	if _, err := s.store.Records().Get(id); !errors.Is(err, store.ErrDamaged) {
		return nil, damage
	}
	return []Removed{{Deleted: id}}, s.store.Records().Remove(id)
}

// givenName is the full name of ref. For a reference by digest it is the first name with that digest.
func (s *Images) givenName(ref string, names []store.Name) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", &InvalidReferenceError{ref, err}
	}
	if _, ok := named.(reference.Digested); ok && len(names) > 0 {
		if slices.ContainsFunc(names, func(n store.Name) bool { return n.Ref == named.String() }) {
			return named.String(), nil
		}
		return names[0].Ref, nil
	}
	return reference.TagNameOnly(named).String(), nil
}

func (r *removal) run(ctx context.Context) error {
	gone, err := r.untagged()
	if err != nil {
		return err
	}
	last := len(gone) >= len(r.names)
	parts := r.parts(gone)
	if last && r.id != "" {
		for _, id := range append([]digest.Digest{r.id}, parts...) {
			if err := r.checkUse(id); err != nil {
				return err
			}
		}
	}
	for _, ref := range gone {
		if err := r.untag(ref); err != nil {
			return err
		}
	}
	if !last {
		return nil
	}
	for _, id := range parts {
		if err := r.s.store.Records().Remove(id.String()); err != nil {
			return err
		}
		r.lines = append(r.lines, Removed{Deleted: id.String()})
	}
	return r.delete(ctx)
}

// untagged returns the names to remove. With the last tag in a repository it removes the names by digest in that repository.
func (r *removal) untagged() ([]string, error) {
	if r.given != "" {
		gone := []string{r.given}
		repository := repositoryOf(r.given)
		tags := 0
		for _, n := range r.names {
			if repositoryOf(n.Ref) == repository && !isDigestName(n.Ref) && n.Ref != r.given {
				tags++
			}
		}
		for _, n := range r.names {
			if tags == 0 && n.Ref != r.given && repositoryOf(n.Ref) == repository {
				gone = append(gone, n.Ref)
			}
		}
		return gone, nil
	}
	var gone []string
	tags, repositories := 0, map[string]bool{}
	for _, n := range r.names {
		gone = append(gone, n.Ref)
		repositories[repositoryOf(n.Ref)] = true
		if !isDigestName(n.Ref) {
			tags++
		}
	}
	if (tags > 1 || len(repositories) > 1) && !r.force {
		return nil, &ConflictError{Reason: fmt.Sprintf("unable to delete %s (must be forced) - image is referenced in multiple repositories", cmp.Or(r.id, r.manifest).Encoded()[:12])}
	}
	return gone, nil
}

func isDigestName(ref string) bool { return strings.Contains(ref, "@") }

func repositoryOf(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return named.Name()
}

// checkWhole returns an error if the image is one platform of an index with a name: only the name can be removed.
func (r *removal) checkWhole() error {
	for _, n := range r.all {
		if i := slices.Index(n.Images, r.id); i > 0 {
			return &ConflictError{Reason: fmt.Sprintf("unable to delete %s (cannot be forced) - image is one platform of %s", r.id.Encoded()[:12], familiar(n.Ref))}
		}
	}
	return nil
}

// parts returns the images for other platforms of the names to remove that no other name has.
func (r *removal) parts(gone []string) []digest.Digest {
	kept := map[digest.Digest]bool{}
	var parts []digest.Digest
	for _, n := range r.all {
		for i, id := range n.Images {
			if !slices.Contains(gone, n.Ref) {
				kept[id] = true
			} else if i > 0 && !slices.Contains(parts, id) {
				parts = append(parts, id)
			}
		}
	}
	return slices.DeleteFunc(parts, func(id digest.Digest) bool {
		rec, err := r.s.store.Records().Get(id.String())
		return err != nil || kept[id] || slices.ContainsFunc(r.all, func(n store.Name) bool {
			return len(n.Images) == 0 && n.Target.Digest == rec.Target.Digest
		})
	})
}

// checkUse returns an error if the image runs. Force does not override it.
func (r *removal) checkUse(id digest.Digest) error {
	l, ok, err := r.s.store.TryLock(usedLock(id))
	if err != nil {
		return err
	}
	if !ok {
		return &ConflictError{
			Reason: fmt.Sprintf("unable to delete %s (cannot be forced) - image is being used by running container", id.Encoded()[:12]), Used: id,
		}
	}
	r.used = append(r.used, l)
	return nil
}

func (r *removal) release() error {
	var errs []error
	for _, l := range r.used {
		errs = append(errs, l.Unlock())
	}
	return errors.Join(errs...)
}

func (r *removal) untag(ref string) error {
	if err := r.s.store.Names().Remove(ref); err != nil {
		return err
	}
	r.lines = append(r.lines, Removed{Untagged: familiar(ref)})
	return nil
}

// delete removes the record. As Docker, it lists the layer chains that no image has any more, top first.
func (r *removal) delete(ctx context.Context) error {
	if r.id == "" {
		return nil
	}
	if err := r.s.store.Records().Remove(r.id.String()); err != nil {
		return err
	}
	r.lines = append(r.lines, Removed{Deleted: r.id.String()})
	others, _, _ := r.s.list(ctx)
	for n := len(r.chain); n > 0; n-- {
		part := r.chain[:n]
		if slices.ContainsFunc(others, func(o *Image) bool {
			return len(o.Chain()) >= n && slices.Equal(o.Chain()[:n], part)
		}) {
			break
		}
		r.lines = append(r.lines, Removed{Deleted: identity.ChainID(part).String()})
	}
	return nil
}
