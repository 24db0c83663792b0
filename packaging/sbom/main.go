// Command sbom prints the software bill of materials of a Go binary as SPDX 2.3 JSON: the modules that the linker put into
// it, as the binary itself records them.
package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// document is an SPDX document (specification 2.3, clause 6), with the fields that are used here.
type document struct {
	Version           string         `json:"spdxVersion"`
	License           string         `json:"dataLicense"`
	ID                string         `json:"SPDXID"`
	Name              string         `json:"name"`
	Namespace         string         `json:"documentNamespace"`
	Creation          creation       `json:"creationInfo"`
	Packages          []pkg          `json:"packages"`
	DocumentDescribes []string       `json:"documentDescribes"`
	Relationships     []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	ID               string     `json:"SPDXID"`
	Name             string     `json:"name"`
	Version          string     `json:"versionInfo"`
	FileName         string     `json:"packageFileName,omitempty"`
	Supplier         string     `json:"supplier"`
	DownloadLocation string     `json:"downloadLocation"`
	FilesAnalyzed    bool       `json:"filesAnalyzed"`
	Checksums        []checksum `json:"checksums,omitempty"`
	LicenseConcluded string     `json:"licenseConcluded"`
	LicenseDeclared  string     `json:"licenseDeclared"`
	Copyright        string     `json:"copyrightText"`
	Refs             []ref      `json:"externalRefs"`
	Purpose          string     `json:"primaryPackagePurpose"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type ref struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const (
	documentID = "SPDXRef-DOCUMENT"
	unknown    = "NOASSERTION"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: sbom VERSION BINARY")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatalf("sbom: %v", err)
	}
}

func run(version, path string) error {
	created, err := sourceDate()
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(binary)
	doc := describe(info, version, filepath.Base(path), hex.EncodeToString(sum[:]))
	doc.Creation.Created = created.Format(time.RFC3339)
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// sourceDate returns the time of SOURCE_DATE_EPOCH. The time of day would give each run another document.
func sourceDate() (time.Time, error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// describe returns the document of a binary. The version of its own module is given: the linker may not know it.
func describe(info *buildinfo.BuildInfo, version, name, sum string) document {
	doc := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: documentID, Name: name,
		Namespace: "https://" + info.Main.Path + "/spdx/" + name + "-" + sum,
		Creation:  creation{Creators: []string{"Tool: " + info.Main.Path + "/packaging/sbom"}},
	}
	binary := newPackage(info.Main.Path, version)
	binary.FileName, binary.Purpose = name, "APPLICATION"
	binary.LicenseConcluded, binary.LicenseDeclared = "Apache-2.0", "Apache-2.0"
	binary.Checksums = []checksum{{"SHA256", sum}}
	doc.Packages = []pkg{binary, newPackage("stdlib", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, dep := range info.Deps {
		// A replacement that is a directory has neither a version nor a name that others know.
		if dep.Replace != nil && dep.Replace.Version != "" {
			dep = dep.Replace
		}
		doc.Packages = append(doc.Packages, newPackage(dep.Path, dep.Version))
	}
	doc.DocumentDescribes = []string{binary.ID}
	doc.Relationships = []relationship{{documentID, "DESCRIBES", binary.ID}}
	for _, p := range doc.Packages[1:] {
		doc.Relationships = append(doc.Relationships, relationship{binary.ID, "DEPENDS_ON", p.ID})
	}
	return doc
}

// newPackage returns a module, which a package URL of type golang names.
func newPackage(path, version string) pkg {
	return pkg{
		ID: packageID(path, version), Name: path, Version: cmp.Or(version, unknown), Supplier: unknown, DownloadLocation: unknown,
		LicenseConcluded: unknown, LicenseDeclared: unknown, Copyright: unknown, Purpose: "LIBRARY",
		Refs: []ref{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")}},
	}
}

// packageID returns an identifier of letters, digits, "." and "-" alone (clause 7.2).
func packageID(path, version string) string {
	return "SPDXRef-" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, path+"-"+version)
}
