package builder

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/platforms"

	"github.com/micabuild/mica/internal/attest"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/catalog"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/sbom"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/version"
	"github.com/micabuild/mica/internal/view"
)

// sbomFile is the name of the file of an SBOM, as BuildKit's scanner names it.
const sbomFile = "sbom.spdx.json"

// catalogs reports whether mica itself makes the SBOMs: no image was named that does.
func (o *Options) catalogs() bool {
	attrs, ok := o.Attests[buildspec.AttestSBOM]
	return ok && attrs["generator"] == ""
}

// findCatalog looks for the program that lists packages, before a build that needs it at its end.
func (b *Builder) findCatalog(ctx context.Context, o *Options) error {
	if !o.catalogs() || o.Explain || o.Call.Name != "" {
		return nil
	}
	if err := (&catalog.Cataloguer{Store: b.Store}).Find(ctx); err != nil {
		return fmt.Errorf("sbom: %w", err)
	}
	return nil
}

// catalogAll lists the packages of all platforms.
func (b *Builder) catalogAll(ctx context.Context, s *solver.Solver, out *response, events solver.Events) error {
	c := &catalog.Cataloguer{Store: b.Store}
	for _, p := range out.platforms {
		if p.hasSBOM() { // of the front end
			continue
		}
		step := startStep(events, "["+platforms.Format(p.platform)+"] listing packages")
		found, err := c.Chain(ctx, p.result.Chain.DiffIDs(), func(ctx context.Context) (view.View, error) { return s.View(ctx, p.result) })
		step.end(err)
		if err != nil {
			return fmt.Errorf("sbom: %w", err)
		}
		for _, file := range found.Skipped {
			step.warn("the SBOM may lack packages: not catalogued: " + file)
		}
		p.catalog = found
	}
	return nil
}

// sbom attests the packages of a platform's image, or of its files if img is nil.
func (a *attester) sbom(p *built, img *image.Image) (*attest.Attestation, error) {
	subject := &sbom.Subject{Name: "image", Created: a.started, Version: version.String()}
	switch {
	case img != nil && !img.Created().IsZero():
		subject.Created = img.Created()
	case p.epoch != nil:
		subject.Created = *p.epoch
	}
	subject.Created = subject.Created.UTC().Truncate(time.Second)
	document, err := sbom.SPDX(subject, p.catalog.Packages, false)
	if err != nil {
		return nil, fmt.Errorf("sbom: %w", err)
	}
	return &attest.Attestation{Name: sbomFile, PredicateType: sbom.PredicateSPDX, Predicate: document}, nil
}
