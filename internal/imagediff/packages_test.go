package imagediff

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/catalog"
)

func TestPackageChanges(t *testing.T) {
	t.Parallel()
	deb := func(name, version, arch string) catalog.Package {
		return catalog.Package{Type: "deb", Name: name, Version: version, PURL: "pkg:deb/debian/" + name + "@" + version + "?arch=" + arch + "&distro=debian-12"}
	}
	npm := func(name, version, path string) catalog.Package {
		return catalog.Package{Type: "npm", Name: name, Version: version, Path: path}
	}
	list := func(all ...catalog.Package) []catalog.Package { return all }
	for _, test := range []struct {
		name string
		a, b []catalog.Package
		want []PackageChange
	}{
		{"none", nil, nil, []PackageChange{}},
		{"the same", list(deb("a", "1", "amd64")), list(deb("a", "1", "amd64")), []PackageChange{}},
		{"added, removed and changed, by type and name", list(npm("b", "1", ""), deb("b", "1", "amd64"), deb("a", "1", "amd64")), list(deb("c", "1", "amd64"), npm("b", "1", ""), deb("b", "2", "amd64")), []PackageChange{
			{Type: "deb", Name: "a", Change: Removed, Old: []string{"1"}}, {Type: "deb", Name: "b", Change: Changed, Old: []string{"1"}, New: []string{"2"}},
			{Type: "deb", Name: "c", Change: Added, New: []string{"1"}},
		}},
		{"another type", list(npm("a", "1", "")), list(deb("a", "1", "amd64")), []PackageChange{
			{Type: "deb", Name: "a", Change: Added, New: []string{"1"}}, {Type: "npm", Name: "a", Change: Removed, Old: []string{"1"}},
		}},
		{"several versions, in other places", list(npm("a", "2", "x"), npm("a", "1", "y")), list(npm("a", "1", "x"), npm("a", "2", "y"), npm("a", "2", "z")), []PackageChange{}},
		{"a version less", list(npm("a", "2", "x"), npm("a", "1", "y")), list(npm("a", "2", "x")), []PackageChange{{Type: "npm", Name: "a", Change: Changed, Old: []string{"1", "2"}, New: []string{"2"}}}},
		{"images of other architectures", list(deb("a", "1", "amd64")), list(deb("a", "1", "arm64")), []PackageChange{}},
		{"an architecture less", list(deb("a", "1", "amd64"), deb("a", "1", "i386")), list(deb("a", "1", "amd64")), []PackageChange{
			{Type: "deb", Name: "a", Change: Changed, Old: []string{"1 (amd64)", "1 (i386)"}, New: []string{"1 (amd64)"}},
		}},
		{"without a version", list(npm("a", "", "")), list(npm("a", "1", "")), []PackageChange{{Type: "npm", Name: "a", Change: Changed, Old: []string{""}, New: []string{"1"}}}},
	} {
		if diff := cmp.Diff(test.want, packageChanges(test.a, test.b)); diff != "" {
			t.Errorf("%s:\n%s", test.name, diff)
		}
	}
}
