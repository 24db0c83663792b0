package sbom

import (
	"cmp"
	"encoding/hex"
	"strings"

	"github.com/micabuild/mica/internal/catalog"
)

// PredicateSPDX is the predicate type of attestations that hold an SPDX document.
const PredicateSPDX = "https://spdx.dev/Document"

// spdxDocument is an SPDX document (specification 2.3, clause 6).
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	License       string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Creators []string `json:"creators"`
	Created  string   `json:"created"`
}

type spdxPackage struct {
	Name             string         `json:"name"`
	ID               string         `json:"SPDXID"`
	Version          string         `json:"versionInfo,omitempty"`
	Supplier         string         `json:"supplier"`
	DownloadLocation string         `json:"downloadLocation"`
	FilesAnalyzed    bool           `json:"filesAnalyzed"`
	Checksums        []spdxChecksum `json:"checksums,omitempty"`
	SourceInfo       string         `json:"sourceInfo,omitempty"`
	LicenseConcluded string         `json:"licenseConcluded"`
	LicenseDeclared  string         `json:"licenseDeclared"`
	LicenseComments  string         `json:"licenseComments,omitempty"`
	Copyright        string         `json:"copyrightText"`
	Refs             []spdxRef      `json:"externalRefs,omitempty"`
	Purpose          string         `json:"primaryPackagePurpose,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const (
	spdxDocumentID = "SPDXRef-DOCUMENT"
	unknown        = "NOASSERTION"
)

// SPDX returns the packages of a subject as an SPDX document, in lines if indent is set.
func SPDX(s *Subject, packages []catalog.Package, indent bool) ([]byte, error) {
	sum := s.fingerprint(packages)
	root := spdxPackage{
		Name: s.Name, ID: "SPDXRef-DocumentRoot-Image", Version: s.Digest.String(), Supplier: unknown, DownloadLocation: unknown,
		LicenseConcluded: unknown, LicenseDeclared: unknown, Copyright: unknown, Purpose: "CONTAINER",
	}
	if s.Digest != "" {
		root.Checksums = []spdxChecksum{{strings.ToUpper(s.Digest.Algorithm().String()), s.Digest.Encoded()}}
	}
	if s.PURL != "" {
		root.Refs = []spdxRef{{"PACKAGE-MANAGER", "purl", s.PURL}}
	}
	doc := &spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: spdxDocumentID, Name: cmp.Or(s.Name, "image"),
		Namespace:     "https://github.com/micabuild/mica/spdx/" + hex.EncodeToString(sum[:]),
		Creation:      spdxCreation{Creators: []string{"Organization: mica", "Tool: mica-" + s.Version}, Created: s.created()},
		Packages:      []spdxPackage{root},
		Relationships: []spdxRelationship{{spdxDocumentID, "DESCRIBES", root.ID}},
	}
	doc.Packages[0].Name = doc.Name
	for i := range packages {
		p := newSPDXPackage(&packages[i])
		doc.Packages = append(doc.Packages, p)
		doc.Relationships = append(doc.Relationships, spdxRelationship{root.ID, "CONTAINS", p.ID})
	}
	return marshal(doc, indent)
}

func newSPDXPackage(p *catalog.Package) spdxPackage {
	expression, names := licenses(p)
	out := spdxPackage{
		Name: p.Name, ID: "SPDXRef-Package-" + spdxID(p.Type+"-"+p.Name) + "-" + packageHash(p), Version: p.Version, Supplier: unknown,
		DownloadLocation: unknown, SourceInfo: "acquired package info from " + kind(p) + ": /" + p.Path,
		LicenseConcluded: unknown, LicenseDeclared: cmp.Or(expression, unknown), Copyright: unknown,
	}
	if expression == "" && len(names) > 0 {
		out.LicenseComments = "The package says: " + strings.Join(names, "; ")
	}
	if p.PURL != "" {
		out.Refs = []spdxRef{{"PACKAGE-MANAGER", "purl", p.PURL}}
	}
	return out
}

// spdxID turns a text into letters, digits, "." and "-" (clause 7.2).
func spdxID(text string) string {
	id := []byte(text)
	for i, c := range id {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '.' {
			id[i] = '-'
		}
	}
	return string(id)
}
