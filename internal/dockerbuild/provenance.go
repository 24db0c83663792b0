package dockerbuild

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	slsa02 "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/v0.2"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/provenance"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/history"
)

// provenance writes the provenance of a build, in the version that all readers know.
func (x *exporter) provenance(b *Build) (map[string]ocispec.Descriptor, error) {
	docs := map[string]*provenancetypes.ProvenancePredicateSLSA1{}
	for platform, data := range b.Provenance {
		docs[platform] = &provenancetypes.ProvenancePredicateSLSA1{}
		if err := json.Unmarshal(data, docs[platform]); err != nil {
			return nil, fmt.Errorf("provenance: %w", err)
		}
	}
	if len(docs) == 0 {
		doc, err := provenanceOf(b.Build)
		if err != nil {
			return nil, err
		}
		docs[""] = doc
	}
	written := map[string]ocispec.Descriptor{}
	for _, platform := range slices.Sorted(maps.Keys(docs)) {
		p, err := provenancePart(docs[platform].ConvertToSLSA02(), slsa02.PredicateSLSAProvenance)
		if err != nil {
			return nil, err
		}
		if _, err = x.blob(p.Descriptor.MediaType, p.Data); err != nil {
			return nil, err
		}
		written[platform] = p.Descriptor
	}
	return written, nil
}

// provenanceOf is the provenance of a build as far as its record knows it: of its sources, the images.
func provenanceOf(b *history.Build) (*provenancetypes.ProvenancePredicateSLSA1, error) {
	c := &provenance.Capture{IncompleteMaterials: true}
	c.Request.Frontend, c.Request.Args = Request(b)
	c.Request.Args = provenance.FilterArgs(c.Request.Args)
	for _, s := range b.Steps {
		if s.Source == nil {
			continue
		}
		scheme, rest, _ := strings.Cut(s.Source.Identifier, "://")
		switch name, sum, _ := strings.Cut(rest, "@"); scheme {
		case "local":
			c.AddLocal(provenancetypes.LocalSource{Name: rest})
		case "docker-image":
			if d := digest.Digest(sum); d.Validate() == nil {
				c.AddImage(provenancetypes.ImageSource{Ref: name + "@" + sum, Digest: d})
			}
		}
	}
	c.Sort()
	p, err := provenance.NewPredicate(c)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	meta := p.RunDetails.Metadata
	meta.InvocationID, meta.StartedOn = b.Ref, &b.Started
	if !b.Completed.IsZero() {
		meta.FinishedOn = &b.Completed
	}
	if b.Text != "" {
		if err := addSource(p, c, b); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// addSource adds the Dockerfile, and the steps that have read it.
func addSource(p *provenancetypes.ProvenancePredicateSLSA1, c *provenance.Capture, b *history.Build) error {
	info := &pb.SourceInfo{Filename: path.Base(attributes(b)["filename"]), Language: "Dockerfile", Data: []byte(b.Text), Definition: &pb.Definition{}}
	if err := info.Definition.UnmarshalVT(b.Source); err != nil {
		return fmt.Errorf("provenance: source of the Dockerfile: %w", err)
	}
	of := definition{def: &pb.Definition{Source: &pb.Source{Infos: []*pb.SourceInfo{info}}}}
	if _, err := provenance.AddBuildConfig(context.Background(), p, c, of, false); err != nil {
		return fmt.Errorf("provenance: %w", err)
	}
	p.BuildDefinition.InternalParameters.BuildConfig = nil // the record does not have the steps as LLB
	return nil
}

// definition is a result of which only the definition is known.
type definition struct {
	solver.ResultProxy
	def *pb.Definition
}

func (d definition) Definition() *pb.Definition { return d.def }
