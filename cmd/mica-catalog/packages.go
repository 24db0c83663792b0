package main

import (
	"strconv"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	javameta "github.com/google/osv-scalibr/extractor/filesystem/language/java/archive/metadata"
	rpmmeta "github.com/google/osv-scalibr/extractor/filesystem/os/rpm/metadata"
	"github.com/google/osv-scalibr/purl"
)

const (
	// maxText is the length of the longest name or version, in bytes. Package managers have shorter limits.
	maxText = 4096
	// maxLicenses is that of all licenses of a package: some have the text of one where its name belongs.
	maxLicenses = 64 << 10
)

// describe returns a package as mica lists it: with the versions that its package manager shows, and a package URL of the form that
// the specification has for its type.
func describe(p *extractor.Package) *Package {
	if p.PURLType == purl.TypeGolang {
		p = goModule(p)
	}
	out := &Package{Type: p.PURLType, Name: p.Name, Version: p.Version, Licenses: licenses(p.Licenses), Path: p.Location.PathOrEmpty()}
	if m, ok := p.Metadata.(*rpmmeta.Metadata); ok && m.Epoch > 0 {
		out.Version = strconv.Itoa(m.Epoch) + ":" + p.Version
	}
	if u := p.PURL(); u != nil {
		complete(u, p)
		out.PURL = u.String()
	}
	return out
}

// goModule returns a Go module under the name and with the version that Go has for it. The extractor has removed the "v" of versions,
// which every version of Go has (go.dev/ref/mod#versions), and calls the standard library, which the vulnerability database
// knows as stdlib, go.
func goModule(p *extractor.Package) *extractor.Package {
	m := *p
	switch {
	case p.Name == "go":
		m.Name = "stdlib"
	case p.Version != "" && p.Version[0] >= '0' && p.Version[0] <= '9':
		m.Version = "v" + p.Version
	}
	return &m
}

// complete makes a package URL one that other tools write too.
func complete(u *purl.PackageURL, p *extractor.Package) {
	kept := u.Qualifiers[:0]
	for _, q := range u.Qualifiers {
		if q.Key != "source" || q.Value != "UNKNOWN" { // that nobody knows where a package came from is not part of its name
			kept = append(kept, q)
		}
	}
	u.Qualifiers = kept
	switch m := p.Metadata.(type) {
	case *javameta.Metadata: // names of Maven's are case-sensitive
		u.Namespace, u.Name = m.GroupID, m.ArtifactID
	case *rpmmeta.Metadata: // the namespace is the vendor
		switch {
		case u.Namespace == "rhel":
			u.Namespace = "redhat"
		case strings.HasPrefix(u.Namespace, "opensuse-"):
			u.Namespace = "opensuse"
		}
	}
	if u.Type == purl.TypeGolang && u.Version == "(devel)" {
		u.Version = "" // it was built from a directory
	}
}

// licenses returns what is not blank and not the text of a license.
func licenses(all []string) []string {
	var kept []string
	left := maxLicenses
	for _, l := range all {
		if left -= len(l); left >= 0 && strings.TrimSpace(l) != "" {
			kept = append(kept, l)
		}
	}
	return kept
}
