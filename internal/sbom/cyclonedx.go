package sbom

import (
	"cmp"
	"fmt"

	"github.com/micabuild/mica/internal/catalog"
)

// cycloneDX is a bill of materials (CycloneDX 1.6).
type cycloneDX struct {
	Schema       string        `json:"$schema"`
	Format       string        `json:"bomFormat"`
	SpecVersion  string        `json:"specVersion"`
	SerialNumber string        `json:"serialNumber"`
	Version      int           `json:"version"`
	Metadata     cycloneMeta   `json:"metadata"`
	Components   []cyclonePart `json:"components"`
}

type cycloneMeta struct {
	Timestamp string       `json:"timestamp"`
	Tools     cycloneTools `json:"tools"`
	Component cyclonePart  `json:"component"`
}

type cycloneTools struct {
	Components []cyclonePart `json:"components"`
}

type cyclonePart struct {
	Ref      string            `json:"bom-ref,omitempty"`
	Type     string            `json:"type"`
	Author   string            `json:"author,omitempty"`
	Name     string            `json:"name"`
	Version  string            `json:"version,omitempty"`
	Licenses []cycloneLicense  `json:"licenses,omitempty"`
	PURL     string            `json:"purl,omitempty"`
	Props    []cycloneProperty `json:"properties,omitempty"`
}

// cycloneLicense has an expression, alone, or licenses.
type cycloneLicense struct {
	Expression string              `json:"expression,omitempty"`
	License    *cycloneLicenseName `json:"license,omitempty"`
}

type cycloneLicenseName struct {
	Name string `json:"name"`
}

type cycloneProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// CycloneDX returns the packages of a subject as a CycloneDX document, in lines if indent is set.
func CycloneDX(s *Subject, packages []catalog.Package, indent bool) ([]byte, error) {
	sum := s.fingerprint(packages)
	image := cyclonePart{
		Ref: "image-" + shortHash(s.Name, s.Digest.String()), Type: "container", Name: cmp.Or(s.Name, "image"), Version: s.Digest.String(),
		PURL: s.PURL,
	}
	doc := &cycloneDX{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		SerialNumber: "urn:uuid:" + uuid(sum[:16]),
		Metadata: cycloneMeta{
			Timestamp: s.created(), Component: image,
			Tools: cycloneTools{[]cyclonePart{{Type: "application", Author: "mica", Name: "mica", Version: s.Version}}},
		},
		Components: []cyclonePart{},
	}
	for i := range packages {
		doc.Components = append(doc.Components, newCyclonePart(&packages[i]))
	}
	return marshal(doc, indent)
}

func newCyclonePart(p *catalog.Package) cyclonePart {
	out := cyclonePart{
		Ref: cmp.Or(p.PURL, p.Type+"/"+p.Name) + "#" + packageHash(p), Type: "library", Name: p.Name, Version: p.Version, PURL: p.PURL,
		Props: []cycloneProperty{{"mica:package:type", p.Type}, {"mica:location", "/" + p.Path}},
	}
	expression, names := licenses(p)
	if expression != "" {
		out.Licenses = []cycloneLicense{{Expression: expression}}
		return out
	}
	for _, n := range names {
		out.Licenses = append(out.Licenses, cycloneLicense{License: &cycloneLicenseName{n}})
	}
	return out
}

// uuid formats a hash as a UUID of version 8, whose content is the application's (RFC 9562, 5.8).
func uuid(b []byte) string {
	u := [16]byte(b)
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
