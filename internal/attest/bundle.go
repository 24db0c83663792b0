package attest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/attestations/sbom"

	"github.com/micabuild/mica/internal/view"
)

// maxStatement bounds what a scanner writes, in bytes, as BuildKit does (exporter/attestation, maxAttestationBytes).
const maxStatement = 40 << 20

// ReadBundle reads the statements that a scanner has left in a folder of a filesystem, all of one type: that of the image
// itself before those of what it was made from (BuildKit, exporter/attestation/unbundle.go).
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
		if strings.HasPrefix(a.PredicateType, "https://slsa.dev/provenance/") {
			return nil, fmt.Errorf("attestation %s: a scanner cannot make provenance", path.Base(f.Path))
		}
		list = append(list, a)
	}
	slices.SortStableFunc(list, func(a, b *Attestation) int { return rank(a) - rank(b) })
	return list, nil
}

// isCore reports whether an attestation is a scanner's, of the image itself.
func (a *Attestation) isCore() bool {
	name, _, _ := strings.Cut(a.Name, ".")
	return name == sbom.CoreSBOMName
}

// rank orders attestations as BuildKit does: what a scanner says of the image, of other things, and provenance.
func rank(a *Attestation) int {
	switch {
	case a.PredicateType == ProvenanceV1 || a.PredicateType == ProvenanceV02:
		return 2
	case a.isCore():
		return 0
	}
	return 1
}

// readStatement reads a file that holds one statement, and nothing else.
func readStatement(ctx context.Context, v view.View, f *view.Entry) (*Attestation, error) {
	name := path.Base(f.Path)
	file, err := view.Resolve(ctx, v, f.Path, true)
	if err != nil {
		return nil, err
	}
	if f, err = v.Lstat(ctx, file); err != nil {
		return nil, err
	}
	if f.Type != view.TypeRegular {
		return nil, fmt.Errorf("not a regular file")
	}
	if f.Size > maxStatement {
		return nil, fmt.Errorf("it has %d bytes, more than the %d that it may have", f.Size, maxStatement)
	}
	r, err := v.Open(ctx, file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(io.LimitReader(r, maxStatement))
	if err != nil {
		return nil, err
	}
	return parseStatement(name, data)
}

// parseStatement reads a statement. What it says is rewritten with its keys sorted, as BuildKit does.
func parseStatement(name string, data []byte) (*Attestation, error) {
	var s struct {
		statement
		Predicate any `json:"predicate"`
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	for i, subject := range s.Subject {
		if subject.Name == "" {
			s.Subject[i].Name = "_" // in-toto: an artifact that has no name
		}
	}
	predicate, err := json.Marshal(s.Predicate)
	if err != nil {
		return nil, err
	}
	return &Attestation{Name: name, PredicateType: s.PredicateType, Predicate: predicate, Subjects: s.Subject}, nil
}
