package builder

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/exporter/verifier"
	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/solver"
)

const (
	// namesOfFrontend is the name of an output that takes those of the front end.
	namesOfFrontend = "*"
	// returnedPrefix begins the metadata that is returned to the client of the build.
	returnedPrefix = "frontend."
)

// forOutput is the response as an output gets it. Its metadata replaces that of the front end. Provenance with the attribute inline-only,
// which buildx asks for by default, is only for images that are stored or pushed: a Docker archive would have no place for it.
func (r *response) forOutput(e *buildspec.Output) (*response, error) {
	out, attester := *r, *r.attester
	out.attester = &attester
	if only, _ := strconv.ParseBool(attester.provenanceAttrs["inline-only"]); only && e.Type != buildspec.OutputImage {
		attester.provenanceAttrs = nil
	}
	if len(e.Meta) == 0 {
		return &out, nil
	}
	out.meta, out.platforms = map[string][]byte{}, nil
	maps.Copy(out.meta, r.meta)
	for k, v := range e.Meta {
		out.meta[k] = []byte(v)
	}
	list, err := exptypes.ParsePlatforms(out.meta)
	if err != nil {
		return nil, fmt.Errorf("metadata of the output: %w", err)
	}
	for _, p := range list.Platforms {
		from, err := r.platform(p.ID)
		if err != nil {
			return nil, err
		}
		at := *from
		at.id, at.platform = p.ID, p.Platform
		if err := at.read(out.meta); err != nil {
			return nil, err
		}
		out.platforms = append(out.platforms, &at)
	}
	return &out, nil
}

// platform returns what was built for a platform. The only result is for whichever the metadata says.
func (r *response) platform(id string) (*built, error) {
	i := slices.IndexFunc(r.platforms, func(b *built) bool { return b.id == id })
	switch {
	case i >= 0:
		return r.platforms[i], nil
	case !r.several:
		return r.platforms[0], nil
	}
	return nil, fmt.Errorf("the build has no result for %s", id)
}

// names are the full names that an output adds to those of the build.
func (r *response) names(e *buildspec.Output) ([]string, error) {
	if given, ok := r.meta[exptypes.ExporterImageNameKey]; ok && slices.Equal(e.Names, []string{namesOfFrontend}) {
		return parseTags(strings.Split(string(given), ","))
	}
	return parseTags(e.Names)
}

// annotations are those of an output and those of the front end, which win.
func (r *response) annotations(f buildspec.Form) map[string]string {
	all := map[string]string{}
	maps.Copy(all, f.Annotations)
	for k, v := range r.meta {
		if _, ok, _ := exptypes.ParseAnnotationKey(k); ok {
			all[k] = string(v)
		}
	}
	return all
}

// returned is the metadata of a result for the client of the build.
func returned(meta map[string][]byte) map[string][]byte {
	all := map[string][]byte{}
	for k, v := range meta {
		if strings.HasPrefix(k, returnedPrefix) {
			all[k] = v
		}
	}
	return all
}

// verifyPlatforms warns if the platforms of a result are not those that the user has asked for.
func verifyPlatforms(ctx context.Context, opts map[string]string, res *client.Result, events solver.Events) error {
	res = res.Clone() // CaptureFrontendOpts adds to it
	if err := verifier.CaptureFrontendOpts(opts, res); err != nil {
		return err
	}
	warnings, err := verifier.CheckInvalidPlatforms(ctx, res)
	if err != nil || len(warnings) == 0 {
		return err
	}
	step := startStep(events, "verifying build result")
	for _, w := range warnings {
		step.warn(string(w.Short))
	}
	step.end(nil)
	return nil
}
