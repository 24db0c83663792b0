package imagediff

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/catalog"
	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/view"
)

// PackageChange is a package that only one image has, or of which the images have other versions.
type PackageChange struct {
	Type   string   `json:"type"` // of its package URL: deb, rpm, apk, pypi, npm, gem, golang, cargo or maven
	Name   string   `json:"name"`
	Change Change   `json:"change"`
	Old    []string `json:"old,omitempty"` // versions, sorted; one may be "". With architectures, if an image has several
	New    []string `json:"new,omitempty"`
}

// PackagesReport has the differences of the packages, by type and name.
type PackagesReport struct {
	Changes []PackageChange `json:"changes"`
}

// notDownloadedError is the error of an image whose packages are not read, as only tables of contents of it are.
type notDownloadedError struct{ name string }

func (e *notDownloadedError) Error() string {
	return "that needs the layers of " + e.name + ", of which only the tables of contents were downloaded (--only packages downloads them)"
}

// comparePackages compares the packages of two images. Where they cannot be listed, the rest is compared: mica-catalog may not be installed,
// or be of another version, or an image may make it fail.
func comparePackages(ctx context.Context, a, b *inspect.Image, o Options, r *Report) error {
	if o.Packages == nil {
		return nil
	}
	if chain := a.Chain(); len(chain) > 0 && slices.Equal(chain, b.Chain()) {
		r.Packages = &PackagesReport{Changes: []PackageChange{}}
		return nil
	}
	var found [2]*catalog.Catalog
	for i, img := range []*inspect.Image{a, b} {
		var err error
		open := img.View
		wanted := slices.Contains(o.Only, sectionPackages)
		if !wanted && slices.ContainsFunc(img.Layers, (*inspect.Layer).Listed) {
			open = func(context.Context) (view.View, error) { return nil, &notDownloadedError{img.Name} }
		}
		found[i], err = o.Packages.Chain(ctx, img.Chain(), open)
		if err != nil && !wanted && ctx.Err() == nil {
			r.Notes = append(r.Notes, "packages were not compared: "+err.Error())
			return nil
		}
		if err != nil {
			return fmt.Errorf("packages of %s: %w", img.Name, err)
		}
		for _, s := range found[i].Skipped {
			r.Notes = append(r.Notes, "packages of "+img.Name+": not read: "+s)
		}
	}
	r.Packages = &PackagesReport{Changes: packageChanges(found[0].Packages, found[1].Packages)}
	return nil
}

// packageKey names what has versions.
type packageKey struct{ kind, name string }

// packageChanges compares the versions of packages by type and name.
func packageChanges(a, b []catalog.Package) []PackageChange {
	changes := []PackageChange{}
	several := map[packageKey]bool{}
	addArchitectures(several, a)
	addArchitectures(several, b)
	old, now := versions(a, several), versions(b, several)
	for key, before := range old {
		switch after, ok := now[key]; {
		case !ok:
			changes = append(changes, PackageChange{Type: key.kind, Name: key.name, Change: Removed, Old: before})
		case !slices.Equal(before, after):
			changes = append(changes, PackageChange{Type: key.kind, Name: key.name, Change: Changed, Old: before, New: after})
		}
	}
	for key, after := range now {
		if _, ok := old[key]; !ok {
			changes = append(changes, PackageChange{Type: key.kind, Name: key.name, Change: Added, New: after})
		}
	}
	slices.SortFunc(changes, func(x, y PackageChange) int {
		return cmp.Or(strings.Compare(x.Type, y.Type), strings.Compare(x.Name, y.Name))
	})
	return changes
}

// architecture is that of a package; "" if its type has none.
func architecture(p catalog.Package) string {
	_, query, _ := strings.Cut(p.PURL, "?")
	qualifiers, err := url.ParseQuery(query)
	if err != nil {
		return ""
	}
	return qualifiers.Get("arch")
}

// addArchitectures finds the packages that one image has for several architectures, as Debian's multiarch allows.
func addArchitectures(several map[packageKey]bool, list []catalog.Package) {
	first := map[packageKey]string{}
	for _, p := range list {
		key := packageKey{p.Type, p.Name}
		arch, known := first[key]
		if !known {
			first[key] = architecture(p)
		} else if architecture(p) != arch {
			several[key] = true
		}
	}
}

// versions are the versions of each package, sorted, each once: those of packages in several with their architecture.
func versions(list []catalog.Package, several map[packageKey]bool) map[packageKey][]string {
	all := map[packageKey][]string{}
	for _, p := range list {
		key := packageKey{p.Type, p.Name}
		version := p.Version
		if several[key] {
			version += " (" + architecture(p) + ")"
		}
		all[key] = append(all[key], version)
	}
	for key, list := range all {
		slices.Sort(list)
		all[key] = slices.Compact(list)
	}
	return all
}
