package dockerbuild

import (
	"fmt"
	"path"
	"strings"

	slsa02 "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/v0.2"
	"github.com/moby/buildkit/solver/llbsolver/provenance"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/history"
)

// provenanceVersion is the version that all readers know.
const provenanceVersion = slsa02.PredicateSLSAProvenance

// provenance writes the provenance of a build.
func (x *exporter) provenance(b *history.Build) (ocispec.Descriptor, error) {
	p, err := Provenance(b)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	_, err = x.blob(p.Descriptor.MediaType, p.Data)
	return p.Descriptor, err
}

// provenanceOf is the provenance of a build as far as it is recorded: of its sources, the images.
func provenanceOf(b *history.Build) (any, error) {
	c := &provenance.Capture{IncompleteMaterials: true}
	c.Request.Frontend, c.Request.Args = "dockerfile.v0", provenance.FilterArgs(attributes(b))
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
		meta.BuildKitMetadata.Source = &provenancetypes.Source{Infos: []provenancetypes.SourceInfo{{
			Filename: path.Base(attributes(b)["filename"]), Language: "Dockerfile", Data: []byte(b.Text),
		}}}
	}
	return p.ConvertToSLSA02(), nil
}
