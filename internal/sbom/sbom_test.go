package sbom

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/catalog"
)

var (
	subject = &Subject{
		Name: "app:1", Digest: digest.FromString("manifest"), PURL: "pkg:docker/app@1?platform=linux%2Famd64", Created: time.Unix(1_700_000_000, 5), Version: "1.2.3",
	}
	packages = []catalog.Package{
		{Type: "deb", Name: "bash", Version: "5.2", PURL: "pkg:deb/debian/bash@5.2", Path: "var/lib/dpkg/status", Licenses: []string{"GPL-3.0-or-later"}},
		{Type: "npm", Name: "@scope/<x>", Version: "1.0.0", Path: "app/package.json", Licenses: []string{"MIT", "see the file LICENSE"}},
		{Type: "npm", Name: "@scope/<x>", Version: "1.0.0", Path: "other/package.json"},
		{Type: "other", Name: "päck age", Path: "x"},
	}
)

// document decodes a document, and checks that the same input gives the same bytes, and another one others.
func document(t *testing.T, write func(*Subject, []catalog.Package, bool) ([]byte, error)) map[string]any {
	t.Helper()
	data, err := write(subject, packages, true)
	if err != nil {
		t.Fatal(err)
	}
	again, err := write(subject, packages, true)
	if err != nil || string(again) != string(data) {
		t.Errorf("the second document is another, %v", err)
	}
	if other, err := write(subject, packages[1:], true); err != nil || identity(t, other) == identity(t, data) {
		t.Errorf("documents of other packages have the identity of this one, %v", err)
	}
	if strings.Contains(string(data), `\u003c`) {
		t.Error("the document has HTML's escapes")
	}
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// identity is the namespace or the serial number of a document.
func identity(t *testing.T, data []byte) string {
	t.Helper()
	var doc struct{ DocumentNamespace, SerialNumber string }
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.DocumentNamespace + doc.SerialNumber
}

// field returns doc[key][key]..., with numbers for elements of lists.
func field(t *testing.T, doc any, path ...any) any {
	t.Helper()
	for _, key := range path {
		switch key := key.(type) {
		case string:
			doc = doc.(map[string]any)[key]
		case int:
			doc = doc.([]any)[key]
		}
	}
	return doc
}

func TestSPDX(t *testing.T) {
	t.Parallel()
	doc := document(t, SPDX)
	for _, c := range []struct {
		path []any
		want any
	}{
		{[]any{"spdxVersion"}, "SPDX-2.3"},
		{[]any{"dataLicense"}, "CC0-1.0"},
		{[]any{"name"}, "app:1"},
		{[]any{"creationInfo", "created"}, "2023-11-14T22:13:20Z"},
		{[]any{"creationInfo", "creators", 1}, "Tool: mica-1.2.3"},
		{[]any{"packages", 0, "checksums", 0, "checksumValue"}, digest.FromString("manifest").Encoded()},
		{[]any{"packages", 1, "name"}, "bash"},
		{[]any{"packages", 1, "licenseDeclared"}, "GPL-3.0-or-later"},
		{[]any{"packages", 1, "externalRefs", 0, "referenceLocator"}, "pkg:deb/debian/bash@5.2"},
		{[]any{"packages", 2, "licenseDeclared"}, "NOASSERTION"},
		{[]any{"packages", 2, "licenseComments"}, "The package says: MIT; see the file LICENSE"},
		{[]any{"relationships", 0, "relationshipType"}, "DESCRIBES"},
		{[]any{"relationships", 1, "relationshipType"}, "CONTAINS"},
	} {
		if got := field(t, doc, c.path...); got != c.want {
			t.Errorf("%v is %q, want %q", c.path, got, c.want)
		}
	}
	id, seen := regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`), map[any]bool{} // clause 7.2
	for _, p := range doc["packages"].([]any) {
		name := field(t, p, "SPDXID")
		if seen[name] || !id.MatchString(name.(string)) {
			t.Errorf("SPDXID %q is invalid or there twice", name)
		}
		seen[name] = true
	}
	for _, r := range doc["relationships"].([]any)[1:] {
		if !seen[field(t, r, "relatedSpdxElement")] {
			t.Errorf("%v is of no package", r)
		}
	}
	if len(seen) != len(packages)+1 {
		t.Errorf("%d packages, want %d", len(seen), len(packages)+1)
	}
}

func TestCycloneDX(t *testing.T) {
	t.Parallel()
	doc := document(t, CycloneDX)
	for _, c := range []struct {
		path []any
		want any
	}{
		{[]any{"bomFormat"}, "CycloneDX"},
		{[]any{"specVersion"}, "1.6"},
		{[]any{"version"}, 1.0},
		{[]any{"metadata", "timestamp"}, "2023-11-14T22:13:20Z"},
		{[]any{"metadata", "component", "name"}, "app:1"},
		{[]any{"metadata", "component", "type"}, "container"},
		{[]any{"components", 0, "name"}, "bash"},
		{[]any{"components", 0, "version"}, "5.2"},
		{[]any{"components", 0, "purl"}, "pkg:deb/debian/bash@5.2"},
		{[]any{"components", 0, "licenses", 0, "expression"}, "GPL-3.0-or-later"},
		{[]any{"components", 1, "licenses", 1, "license", "name"}, "see the file LICENSE"},
	} {
		if got := field(t, doc, c.path...); got != c.want {
			t.Errorf("%v is %v, want %v", c.path, got, c.want)
		}
	}
	if serial := regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`); !serial.MatchString(doc["serialNumber"].(string)) {
		t.Errorf("serial number %q", doc["serialNumber"])
	}
	seen := map[any]bool{}
	for _, c := range doc["components"].([]any) {
		ref := field(t, c, "bom-ref")
		if seen[ref] || ref == "" {
			t.Errorf("bom-ref %q is empty or there twice", ref)
		}
		seen[ref] = true
	}
}

func TestLicenses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in         []string
		expression string
		names      []string
	}{
		{nil, "", nil},
		{[]string{"MIT"}, "MIT", []string{"MIT"}},
		{[]string{"MIT", "MIT", "Apache-2.0 OR MIT"}, "MIT AND (Apache-2.0 OR MIT)", []string{"MIT", "Apache-2.0 OR MIT"}},
		{[]string{"MIT", "Custom"}, "", []string{"MIT", "Custom"}},
		{[]string{"MIT OR"}, "", []string{"MIT OR"}},
		{[]string{"MIT XOR Zlib"}, "", []string{"MIT XOR Zlib"}},
	} {
		expression, names := licenses(&catalog.Package{Licenses: c.in})
		if expression != c.expression || cmp.Diff(names, c.names) != "" {
			t.Errorf("%q: %q, %q; want %q, %q", c.in, expression, names, c.expression, c.names)
		}
	}
}

func TestCreated(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{{}, time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if got := (&Subject{Created: at}).created(); got != "1970-01-01T00:00:00Z" {
			t.Errorf("%v: %q", at, got)
		}
	}
}
