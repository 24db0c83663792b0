// Package attest makes the attestations of an image: SLSA provenance, which BuildKit's packages help to make, and the results
// of scanners (SBOMs). They are in-toto statements, in a manifest beside the image's (BuildKit,
// docs/attestations/attestation-storage.md).
package attest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	slsa02 "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/v0.2"
	slsa1 "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/v1"
	"github.com/moby/buildkit/util/purl"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/view"
)

// The predicate types of provenance.
const (
	ProvenanceV1  = slsa1.PredicateSLSAProvenance
	ProvenanceV02 = slsa02.PredicateSLSAProvenance
)

const (
	statementType = "https://in-toto.io/Statement/v1"
	payloadType   = "application/vnd.in-toto+json"
	predicateNote = "in-toto.io/predicate-type"

	// maxStatement limits the size of a scanner's statement in bytes, as BuildKit does.
	maxStatement = 40 << 20
)

// Attestation is an in-toto attestation of an image.
type Attestation struct {
	// Name is the name of its file in a local export.
	Name          string
	PredicateType string
	Predicate     json.RawMessage
	// Subjects are the subjects of the statement. Without subjects it is the image.
	Subjects []Subject
	// Core is set for the list of the packages of the image itself, which comes before those of other things.
	Core bool
	// ImageOnly is set for one that files have no place for.
	ImageOnly bool
}

// Subject is a subject of a statement (in-toto, Statement v1).
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
	// Self is the image: under each of its names, and under Name if that is not "".
	Self bool `json:"-"`
}

// statement is an in-toto statement.
type statement struct {
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Subject       []Subject       `json:"subject"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Subjects returns the subjects of an image: its names as package URLs, with the digest of its manifest.
func Subjects(names []string, platform ocispec.Platform, manifest digest.Digest) ([]Subject, error) {
	subjects := []Subject{}
	for _, n := range names {
		u, err := purl.RefToPURL("docker", n, &platform)
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, Subject{Name: u, Digest: map[string]string{manifest.Algorithm().String(): manifest.Encoded()}})
	}
	return subjects, nil
}

// Files returns the regular files of a filesystem as subjects.
func Files(ctx context.Context, v view.View) ([]Subject, error) {
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
				err = walk(e.Path)
			case view.TypeRegular:
				var sum digest.Digest
				if sum, err = v.Digest(ctx, e.Path); err == nil {
					subjects = append(subjects, Subject{Name: e.Path, Digest: map[string]string{sum.Algorithm().String(): sum.Encoded()}})
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return subjects, walk(".")
}

// Statement returns the statement as JSON. The image is known as subjects.
func (a *Attestation) Statement(subjects []Subject) ([]byte, error) {
	s := statement{Type: statementType, PredicateType: a.PredicateType, Subject: []Subject{}, Predicate: a.Predicate}
	for _, of := range a.Subjects {
		if !of.Self {
			s.Subject = append(s.Subject, of)
			continue
		}
		for _, self := range subjects {
			s.Subject = append(s.Subject, self)
			if of.Name != "" {
				s.Subject = append(s.Subject, Subject{Name: of.Name, Digest: self.Digest})
			}
		}
	}
	if len(a.Subjects) == 0 {
		s.Subject = subjects
	}
	return json.Marshal(s)
}

// ReadBundle reads the statements that a scanner wrote to a directory. All must be of predicateType, if it is not empty.
func ReadBundle(ctx context.Context, v view.View, dir, predicateType string) ([]*Attestation, error) {
	at, err := view.Resolve(ctx, v, path.Join("/", dir), true)
	if err != nil {
		return nil, err
	}
	files, err := v.ReadDir(ctx, at)
	if err != nil {
		return nil, err
	}
	var list []*Attestation
	for _, f := range files {
		a, err := readStatement(ctx, v, f)
		if err != nil {
			return nil, fmt.Errorf("attestation %s: %w", path.Base(f.Path), err)
		}
		if predicateType != "" && a.PredicateType != predicateType {
			return nil, fmt.Errorf("attestation %s is of type %s, not %s", path.Base(f.Path), a.PredicateType, predicateType)
		}
		if IsProvenance(a.PredicateType) {
			return nil, fmt.Errorf("attestation %s: a scanner cannot make provenance", path.Base(f.Path))
		}
		list = append(list, a)
	}
	return list, nil
}

// IsProvenance reports whether a predicate is provenance, which only mica itself can make.
func IsProvenance(predicateType string) bool {
	return strings.HasPrefix(predicateType, "https://slsa.dev/provenance/")
}

// ReadPredicate reads the predicate of an attestation that a front end has made; nil for an empty file.
func ReadPredicate(ctx context.Context, v view.View, name string) (json.RawMessage, error) {
	at, err := view.Resolve(ctx, v, path.Join("/", name), true)
	if err != nil {
		return nil, err
	}
	f, err := v.Lstat(ctx, at)
	if err != nil {
		return nil, err
	}
	data, err := readLimited(ctx, v, f)
	if err != nil {
		return nil, fmt.Errorf("attestation %s: %w", path.Base(name), err)
	}
	if len(data) == 0 {
		return nil, nil
	}
	return data, nil
}

func readStatement(ctx context.Context, v view.View, f *view.Entry) (*Attestation, error) {
	data, err := readLimited(ctx, v, f)
	if err != nil {
		return nil, err
	}
	var s statement
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	return &Attestation{Name: path.Base(f.Path), PredicateType: s.PredicateType, Predicate: s.Predicate, Subjects: s.Subject}, nil
}

func readLimited(ctx context.Context, v view.View, f *view.Entry) ([]byte, error) {
	if f.Type != view.TypeRegular {
		return nil, fmt.Errorf("not a regular file")
	}
	if f.Size > maxStatement {
		return nil, fmt.Errorf("it has %d bytes, the limit is %d", f.Size, maxStatement)
	}
	r, err := v.Open(ctx, f.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(io.LimitReader(r, maxStatement))
}

// Manifest is the manifest of an image's attestations.
type Manifest struct {
	Descriptor ocispec.Descriptor // for the index
	Blobs      [][]byte           // the statements, the config, and the manifest itself
}

// artifactType is the artifact type of a manifest of attestations.
const artifactType = "application/vnd.docker.attestation.manifest.v1+json"

// NewManifest makes the manifest of an image's attestations: in the form of an image, which every registry accepts, or as an
// artifact whose subject is the image.
func NewManifest(image ocispec.Descriptor, list []*Attestation, subjects []Subject, artifact bool) (*Manifest, error) {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := ocispec.Image{Platform: ocispec.Platform{Architecture: "unknown", OS: "unknown"}}
	config.RootFS.Type = "layers"
	out := &Manifest{}
	for _, a := range list {
		data, err := a.Statement(subjects)
		if err != nil {
			return nil, fmt.Errorf("write attestation: %w", err)
		}
		d := out.add(payloadType, data)
		d.Annotations = map[string]string{predicateNote: a.PredicateType}
		m.Layers = append(m.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("write attestation: %w", err)
	}
	if artifact {
		m.ArtifactType, m.Subject = artifactType, &ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size}
		m.Config = ocispec.DescriptorEmptyJSON
		out.add(m.Config.MediaType, m.Config.Data)
	} else {
		m.Config = out.add(ocispec.MediaTypeImageConfig, raw)
	}
	if raw, err = json.Marshal(m); err != nil {
		return nil, fmt.Errorf("write attestation: %w", err)
	}
	out.Descriptor = out.add(m.MediaType, raw)
	out.Descriptor.Platform = &ocispec.Platform{Architecture: "unknown", OS: "unknown"}
	out.Descriptor.Annotations = map[string]string{
		"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.Digest.String(),
	}
	return out, nil
}

func (m *Manifest) add(mediaType string, data []byte) ocispec.Descriptor {
	m.Blobs = append(m.Blobs, data)
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}
