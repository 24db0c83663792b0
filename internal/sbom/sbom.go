// Package sbom writes software bills of materials: catalogues of packages as SPDX 2.3 and CycloneDX 1.6 JSON. The same image gives the
// same bytes: times and identifiers come from the image.
package sbom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/catalog"
)

// Subject is what a bill of materials is of.
type Subject struct {
	Name string // as a user knows it
	// Digest is that of the manifest, "" if there is none.
	Digest digest.Digest
	// PURL is the package URL of an image with a name.
	PURL string
	// Created is when the image was made; zero for an image that does not say so.
	Created time.Time
	// Version is that of mica.
	Version string
}

// created is the time of the document.
func (s *Subject) created() string {
	at := s.Created
	if at.IsZero() || at.Year() > 9999 || at.Year() < 1 {
		at = time.Unix(0, 0)
	}
	return at.UTC().Format("2006-01-02T15:04:05Z")
}

// fingerprint identifies a document by what it says.
func (s *Subject) fingerprint(packages []catalog.Package) [sha256.Size]byte {
	data, _ := json.Marshal(struct {
		Subject  *Subject
		Packages []catalog.Package
	}{s, packages}) // neither has values that JSON lacks
	return sha256.Sum256(data)
}

// marshal writes JSON without HTML's escapes, in lines if indent is set.
func marshal(v any, indent bool) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "  ")
	}
	err := enc.Encode(v)
	return out.Bytes(), err
}

// licenseID matches what may be an identifier of the SPDX license list, or an expression of some: what packages write otherwise is
// text.
var licenseID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+-]*$`)

// licenses returns the licenses of a package: as an expression, if all are known identifiers, or as names.
func licenses(p *catalog.Package) (expression string, names []string) {
	known := true
	for _, l := range p.Licenses {
		l = strings.TrimSpace(l)
		if !slices.Contains(names, l) {
			names = append(names, l)
			known = known && isExpression(l)
		}
	}
	if len(names) == 0 || !known {
		return "", names
	}
	parts := slices.Clone(names)
	for i, l := range parts {
		if len(parts) > 1 && strings.Contains(l, " ") {
			parts[i] = "(" + l + ")"
		}
	}
	return strings.Join(parts, " AND "), names
}

// isExpression reports whether a text is an expression of identifiers of common licenses (SPDX 2.3, annex D), without parentheses.
func isExpression(text string) bool {
	words := strings.Fields(text)
	if len(words)%2 == 0 {
		return false
	}
	for i, w := range words {
		if i%2 == 1 {
			if w != "AND" && w != "OR" {
				return false
			}
			continue
		}
		if !licenseID.MatchString(w) || !commonLicenses[strings.TrimSuffix(w, "+")] {
			return false
		}
	}
	return true
}

// commonLicenses are identifiers of the SPDX license list that packages use. Any other is written as text, which is always valid.
var commonLicenses = func() map[string]bool {
	m := map[string]bool{}
	for _, id := range strings.Fields(`0BSD AFL-2.1 AFL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-1.1 Apache-2.0 Artistic-1.0 Artistic-1.0-Perl Artistic-2.0
		BlueOak-1.0.0 BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause BSD-4-Clause BSL-1.0 bzip2-1.0.6 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0
		CC-BY-SA-4.0 CC0-1.0 CDDL-1.0 CDDL-1.1 curl EPL-1.0 EPL-2.0 EUPL-1.2 FSFAP FTL GFDL-1.3-only GFDL-1.3-or-later GPL-1.0-only GPL-1.0-or-later
		GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later HPND ICU IJG ISC JSON LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1-only
		LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later Libpng MIT MIT-0 MPL-1.1 MPL-2.0 NCSA NTP OFL-1.1 OpenSSL PHP-3.01 PostgreSQL
		PSF-2.0 Python-2.0 Ruby SISSL Sleepycat TCL Unicode-3.0 Unicode-DFS-2016 Unlicense UPL-1.0 Vim W3C WTFPL X11 Zlib ZPL-2.1`) {
		m[id] = true
	}
	return m
}()

// kind says in words where a package comes from.
func kind(p *catalog.Package) string { return cmp.Or(kinds[p.Type], p.Type) }

var kinds = map[string]string{
	"deb": "dpkg", "rpm": "rpm", "apk": "apk", "pypi": "Python", "npm": "npm", "gem": "RubyGems", "golang": "Go", "cargo": "Rust", "maven": "Java",
	"opkg": "opkg",
}

// shortHash is enough of a hash to tell the packages of one document apart.
func shortHash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

func packageHash(p *catalog.Package) string {
	return shortHash(p.Type, p.Name, p.Version, p.Path, p.PURL)
}
