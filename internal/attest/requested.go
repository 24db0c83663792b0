package attest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/llbsolver/provenance"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// Requested is what a process has requested through the proxy network.
type Requested struct {
	Files []provenancetypes.HTTPSource
	// Gaps are the requests whose responses are not known; their operations are set by Provenance.
	Gaps []provenancetypes.ProxyCaptureIncomplete
}

// notRun is the reason of a gap for a process that did not run in this build: its result was in a cache.
const notRun = "cached"

// captureRequested adds what a process of the proxy network has requested.
func (b *Build) captureRequested(c *provenance.Capture, e *pb.ExecOp, id digest.Digest) {
	if b.Requested == nil || e.Network == pb.NetMode_NONE {
		return
	}
	c.ProxyNetwork = true
	got, ok := b.Requested(id)
	if !ok {
		got.Gaps = []provenancetypes.ProxyCaptureIncomplete{{Reason: notRun}}
	}
	for _, f := range got.Files {
		c.AddHTTP(f)
	}
	for _, g := range got.Gaps {
		g.Op, g.Name = id.String(), strings.Join(e.Meta.GetArgs(), " ")
		c.ProxyIncomplete = append(c.ProxyIncomplete, g)
		c.IncompleteMaterials = true
	}
}

// checkComplete returns an error if attrs ask for complete materials and the build has others.
func checkComplete(p *provenancetypes.ProvenancePredicateSLSA1, c *provenance.Capture, attrs map[string]string) error {
	v, ok := attrs["complete-materials"]
	if !ok {
		return nil
	}
	complete, err := strconv.ParseBool(v)
	if err != nil {
		return fmt.Errorf("provenance: complete-materials is true or false, not %q", v)
	}
	if !complete || p.RunDetails.Metadata.Completeness.ResolvedDependencies {
		return nil
	}
	var details []*errdefs.ProvenanceMaterialIncomplete
	var missing []string
	for _, l := range c.Sources.Local {
		details = append(details, &errdefs.ProvenanceMaterialIncomplete{Name: l.Name, Reason: "local_source"})
		missing = append(missing, "the local directory "+l.Name)
	}
	for _, g := range c.ProxyIncomplete {
		details = append(details, &errdefs.ProvenanceMaterialIncomplete{
			Op: g.Op, Name: g.Name, Method: g.Method, Uri: g.URI, FinalUri: g.FinalURI, Reason: g.Reason,
		})
		what := strings.TrimSpace(g.Method + " " + g.URI)
		if what == "" {
			what = "requests"
		}
		missing = append(missing, fmt.Sprintf("%s of %q (%s)", what, g.Name, g.Reason))
	}
	text := "provenance materials are incomplete"
	if len(missing) > 0 {
		text += ": " + strings.Join(missing, ", ")
	}
	return errdefs.WithProvenanceMaterialsIncomplete(errors.New(text), details)
}
