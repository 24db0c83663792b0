package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	scan "github.com/moby/buildkit/frontend/attestations/sbom"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/solver/result"

	"github.com/micabuild/mica/internal/attest"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/sbom"
)

// collectAll reads the attestations of the front end and of scanners for all platforms.
func (a *attester) collectAll(ctx context.Context, out *response) error {
	for _, p := range out.platforms {
		a.results[p.def] = true
		if err := a.collect(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// collect reads the attestations of a platform. Provenance is made when the layers are known.
func (a *attester) collect(ctx context.Context, p *built) error {
	for _, from := range p.bundles {
		list, err := read(ctx, from)
		if err != nil {
			return err
		}
		for _, att := range list {
			core, ok := from.Metadata[result.AttestationSBOMCore]
			name, _, _ := strings.Cut(att.Name, ".")
			att.Core = ok && name == string(core)
			att.ImageOnly = bytes.Equal(from.Metadata[result.AttestationInlineOnlyKey], []byte(strconv.FormatBool(true)))
		}
		p.attestations = append(p.attestations, list...)
	}
	slices.SortStableFunc(p.attestations, func(a, b *attest.Attestation) int {
		switch {
		case a.Core == b.Core:
			return 0
		case a.Core:
			return -1
		}
		return 1
	})
	return nil
}

// read reads an attestation of a front end, or those in a directory.
func read(ctx context.Context, from result.Attestation[client.Reference]) ([]*attest.Attestation, error) {
	ref, ok := from.Ref.(*resultRef)
	if !ok {
		return nil, errors.New("an attestation has no content")
	}
	v, err := ref.view(ctx)
	if err != nil {
		return nil, err
	}
	switch from.Kind {
	case gwpb.AttestationKind_Bundle:
		return attest.ReadBundle(ctx, v, from.Path, from.InToto.PredicateType)
	case gwpb.AttestationKind_InToto:
	default:
		return nil, fmt.Errorf("unknown kind of attestation %d", from.Kind)
	}
	if attest.IsProvenance(from.InToto.PredicateType) {
		return nil, errors.New("a front end cannot make provenance")
	}
	predicate, err := attest.ReadPredicate(ctx, v, from.Path)
	if err != nil {
		return nil, err
	}
	subjects, err := subjectsOf(from.InToto.Subjects)
	return []*attest.Attestation{{
		Name: path.Base(from.Path), PredicateType: from.InToto.PredicateType, Predicate: predicate, Subjects: subjects,
	}}, err
}

func subjectsOf(list []result.InTotoSubject) ([]attest.Subject, error) {
	var subjects []attest.Subject
	for _, s := range list {
		switch s.Kind {
		case gwpb.InTotoSubjectKind_Self:
			subjects = append(subjects, attest.Subject{Name: s.Name, Self: true})
		case gwpb.InTotoSubjectKind_Raw:
			if s.Name == "" {
				s.Name = "_"
			}
			subjects = append(subjects, attest.Subject{Name: s.Name, Digest: result.ToDigestMap(s.Digest...)})
		default:
			return nil, fmt.Errorf("unknown kind of the subject of an attestation %d", s.Kind)
		}
	}
	return subjects, nil
}

// hasSBOM reports whether the platform has a list of its packages.
func (b *built) hasSBOM() bool {
	return slices.ContainsFunc(b.attestations, func(a *attest.Attestation) bool { return a.PredicateType == sbom.PredicateSPDX })
}

// scan runs the scanner that the user has named on the result of a front end that has not done it (BuildKit,
// docs/attestations/sbom-protocol.md).
func (f *frontend) scan(ctx context.Context, o *Options, res *client.Result) error {
	attrs, asked := o.Attests[buildspec.AttestSBOM]
	if !asked || o.catalogs() || scan.HasSBOM(res) {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(attrs["generator"])
	if err != nil {
		return fmt.Errorf("sbom: generator %q: %w", attrs["generator"], err)
	}
	params := maps.Clone(attrs)
	delete(params, "generator")
	host := platforms.Normalize(platforms.DefaultSpec())
	scanner, err := scan.CreateSBOMScanner(ctx, f, reference.TagNameOnly(named).String(), host, sourceresolver.Opt{
		ImageOpt: &sourceresolver.ResolveImageOpt{ResolveMode: f.opts[optResolveMode], Platform: &host},
	}, params)
	if err != nil {
		return fmt.Errorf("sbom: %w", err)
	}
	list, err := exptypes.ParsePlatforms(res.Metadata)
	if err != nil {
		return err
	}
	for _, p := range list.Platforms {
		if err := f.scanPlatform(ctx, scanner, p.ID, res); err != nil {
			return fmt.Errorf("sbom: %w", err)
		}
	}
	return nil
}

// scannerEnv begins the names of a scanner's variables: those that BuildKit sets itself, and its parameters.
const scannerEnv = "BUILDKIT_SCAN_"

// hasParameters reports whether the scanner of a build has several parameters.
func (o *Options) hasParameters() bool { return len(o.Attests[buildspec.AttestSBOM]) > 2 } // one is its name

// sortParameters puts the parameters of scanners in order. BuildKit's scanner takes them from a map: each order would be another step.
func sortParameters(def *pb.Definition) (*pb.Definition, error) {
	own := []string{scannerEnv + "DESTINATION=", scannerEnv + "SOURCE=", scannerEnv + "SOURCE_EXTRAS="}
	return rewrite(def, func(_ string, op *pb.Op) {
		var at []int
		var values []string
		env := op.GetExec().GetMeta().GetEnv()
		for i, kv := range env {
			if strings.HasPrefix(kv, scannerEnv) && !slices.ContainsFunc(own, func(name string) bool { return strings.HasPrefix(kv, name) }) {
				at, values = append(at, i), append(values, kv)
			}
		}
		slices.Sort(values)
		for i, v := range values {
			env[at[i]] = v
		}
	})
}

func (f *frontend) scanPlatform(ctx context.Context, scanner scan.Scanner, id string, res *client.Result) error {
	ref, ok := res.FindRef(id)
	if r, is := ref.(*resultRef); !ok || !is || r == nil {
		return nil // the empty filesystem
	}
	st, err := ref.ToState()
	if err != nil {
		return err
	}
	var opts []llb.ConstraintsOpt
	if stages, set := f.opts["no-cache"]; set && stages == "" {
		opts = append(opts, llb.IgnoreCache)
	}
	att, err := scanner(ctx, id, st, nil, opts...)
	if err != nil {
		return err
	}
	def, err := att.Ref.Marshal(ctx)
	if err != nil {
		return err
	}
	found, err := f.solve(ctx, client.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return err
	}
	res.AddAttestation(id, client.Attestation{Kind: att.Kind, Metadata: att.Metadata, Ref: found.Ref, Path: att.Path, InToto: att.InToto})
	return nil
}
