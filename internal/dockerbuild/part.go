package dockerbuild

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"

	slsa1 "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/history"
)

// Part is a file of a record, as BuildKit's API has it.
type Part struct {
	Descriptor ocispec.Descriptor
	Data       []byte
}

func newPart(mediaType string, data []byte) *Part {
	return &Part{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data}
}

// Provenance is the provenance of a build as far as its record knows it (SLSA 1).
func Provenance(b *history.Build) (*Part, error) {
	doc, err := provenanceOf(b)
	if err != nil {
		return nil, err
	}
	return provenancePart(doc, slsa1.PredicateSLSAProvenance)
}

// Attestation is the provenance of one platform as the history has it (SLSA 1).
func Attestation(predicate []byte) *Part {
	p := newPart(provenanceType, predicate)
	p.Descriptor.Annotations = map[string]string{predicateNote: slsa1.PredicateSLSAProvenance}
	return p
}

func provenancePart(doc any, version string) (*Part, error) {
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, err
	}
	p := newPart(provenanceType, data)
	p.Descriptor.Annotations = map[string]string{predicateNote: version}
	return p, nil
}

// Failure is the error of a build with its details, nil if it has none.
func Failure(b *history.Build) (*Part, error) {
	if len(b.Failure) == 0 {
		return nil, fmt.Errorf("build %s: %w", b.Ref, fs.ErrNotExist)
	}
	return newPart(failureType, b.Failure), nil
}

// Trace is the times of a build and its steps.
func Trace(b *history.Build) (*Part, error) {
	var data bytes.Buffer
	if err := writeTrace(&data, b); err != nil {
		return nil, err
	}
	return newPart(traceType, data.Bytes()), nil
}
