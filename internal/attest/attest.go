// Package attest says what an image was made of: provenance in SLSA's form, with what BuildKit's own packages know of it,
// and what scanners found (SBOMs), as in-toto statements in a manifest beside the image's (BuildKit,
// docs/attestations/attestation-storage.md).
package attest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	slsa02 "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/v0.2"
	slsa1 "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/v1"
	"github.com/moby/buildkit/util/purl"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/view"
)

// The types of predicates that mica makes itself.
const (
	ProvenanceV1  = slsa1.PredicateSLSAProvenance
	ProvenanceV02 = slsa02.PredicateSLSAProvenance
)

const (
	statementType = "https://in-toto.io/Statement/v1"
	payloadType   = "application/vnd.in-toto+json"
)

// Attestation is one thing that is said of an image.
type Attestation struct {
	// Name is that of a file that it is written to.
	Name          string
	PredicateType string
	Predicate     json.RawMessage
	// Subjects are what it speaks of; none means the image.
	Subjects []Subject
	// InlineOnly is an attestation that images have, and folders, archives and layouts do not.
	InlineOnly bool
}

// Subject is what a statement speaks of (in-toto, Statement v1).
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// statement is an attestation as in-toto has it.
type statement struct {
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Subject       []Subject       `json:"subject"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Subjects are the names of an image as package URLs, and its manifest.
func Subjects(names []string, platform ocispec.Platform, manifest digest.Digest) ([]Subject, error) {
	subjects := []Subject{}
	for _, n := range names {
		u, err := purl.RefToPURL("docker", n, &platform)
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, subject(u, manifest))
	}
	return subjects, nil
}

func subject(name string, d digest.Digest) Subject {
	return Subject{name, map[string]string{d.Algorithm().String(): d.Encoded()}}
}

// FileSubjects are the files of a filesystem: what is said of an output that is no image (BuildKit, exporter/local/fs.go).
func FileSubjects(ctx context.Context, v view.View) ([]Subject, error) {
	subjects := []Subject{}
	var walk func(dir string) error
	walk = func(dir string) error {
		entries, err := v.ReadDir(ctx, dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch e.Type {
			case view.TypeDir:
				if err := walk(e.Path); err != nil {
					return err
				}
			case view.TypeRegular:
				d, err := v.Digest(ctx, e.Path)
				if err != nil {
					return err
				}
				subjects = append(subjects, subject(e.Path, d))
			}
		}
		return nil
	}
	if err := walk("."); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("write attestation: %w", err)
	}
	return subjects, nil
}

// Statement is the attestation of an image that subjects name.
func (a *Attestation) Statement(subjects []Subject) ([]byte, error) {
	s := statement{Type: statementType, PredicateType: a.PredicateType, Subject: a.Subjects, Predicate: a.Predicate}
	if len(s.Subject) == 0 {
		s.Subject = subjects
	}
	if s.Subject == nil {
		s.Subject = []Subject{} // in-toto wants the list, though it be empty
	}
	return json.Marshal(s)
}
