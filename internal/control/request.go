package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/tonistiigi/go-csvvalue"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/history"
)

// outputPrefix begins the destination of an output, which ends with its number.
const outputPrefix = "output "

// options turns a request into a build, with the entitlements of those that the server grants. Its front end is the caller's business.
func options(req *controlapi.SolveRequest, granted []string) (*builder.Options, error) {
	o := &builder.Options{Context: builder.ClientContext{}, Attrs: maps.Clone(req.FrontendAttrs), Inputs: req.FrontendInputs, Internal: req.Internal}
	o.ProxyNetwork = req.ProxyNetwork
	if o.Attrs == nil {
		o.Attrs = map[string]string{}
	}
	if req.SourcePolicy != nil {
		o.Policies = append(o.Policies, req.SourcePolicy)
	}
	if history.ValidRef(req.Ref) { // another one does not name a build in the history
		o.Ref = req.Ref
	}
	if err := describe(&o.Spec, o.Attrs); err != nil {
		return nil, err
	}
	for _, e := range req.Entitlements {
		switch {
		case e == "":
		case !slices.Contains(granted, e):
			return nil, status.Errorf(codes.PermissionDenied, "entitlement %s is not allowed: mica serve grants it with --allow-insecure-entitlement %s", e, e)
		default:
			o.Allow = append(o.Allow, e)
		}
	}
	var err error
	if o.Compatibility, err = compatibility(req); err != nil {
		return nil, err
	}
	if o.Outputs, err = outputs(req, defaultsOf(o)); err != nil {
		return nil, err
	}
	o.CacheFrom, o.CacheTo, err = caches(req.Cache)
	return o, err
}

// describe takes from the options of the compiler what mica knows: what the record of the build shows, and attestations.
func describe(s *buildspec.Spec, attrs map[string]string) error {
	s.BuildArgs, s.Labels, s.Attests = map[string]string{}, map[string]string{}, buildspec.Attests{}
	for k, v := range attrs {
		kind, name, _ := strings.Cut(k, ":")
		switch kind {
		case "build-arg":
			s.BuildArgs[name] = v
		case "label":
			s.Labels[name] = v
		case "attest":
			at, err := attestAttrs(v)
			if err != nil {
				return fmt.Errorf("attestation %s: %w", name, err)
			}
			s.Attests[name] = at
			delete(attrs, k)
		}
	}
	s.Target, s.Dockerfile, s.Path = attrs["target"], attrs["filename"], attrs["context"]
	if p := attrs["platform"]; p != "" {
		var err error
		if s.Platforms, err = buildspec.ParsePlatforms([]string{p}); err != nil {
			return err
		}
	}
	return nil
}

// attestAttrs reads the attributes of an attestation: "mode=max".
func attestAttrs(text string) (map[string]string, error) {
	attrs := map[string]string{}
	if text == "" || text == "true" {
		return attrs, nil
	}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		k, v, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("invalid value %s: expected key=value", f)
		}
		attrs[k] = v
	}
	return attrs, nil
}

// outputs reads the exporters. Without one nothing is written: the steps are in the cache.
func outputs(req *controlapi.SolveRequest, d *exporterDefaults) ([]buildspec.Output, error) {
	list := exportersOf(req)
	if len(list) == 0 {
		return []buildspec.Output{{Type: buildspec.OutputNone}}, nil
	}
	var all []buildspec.Output
	for i, e := range list {
		if e == nil {
			return nil, status.Error(codes.InvalidArgument, "an exporter has no value")
		}
		o, err := output(i, e, d)
		if err != nil {
			return nil, err
		}
		all = append(all, *o)
	}
	return all, nil
}

// caches reads the remote caches.
func caches(o *controlapi.CacheOptions) (from, to []buildspec.Cache, err error) {
	if o == nil {
		return nil, nil, nil
	}
	for _, ref := range o.ImportRefsDeprecated {
		o.Imports = append(o.Imports, &controlapi.CacheOptionsEntry{Type: buildspec.CacheRegistry, Attrs: map[string]string{"ref": ref}})
	}
	if ref := o.ExportRefDeprecated; ref != "" {
		attrs := map[string]string{"ref": ref}
		maps.Copy(attrs, o.ExportAttrsDeprecated)
		o.Exports = append(o.Exports, &controlapi.CacheOptionsEntry{Type: buildspec.CacheRegistry, Attrs: attrs})
	}
	if from, err = buildspec.NewCaches(entries(o.Imports), false); err != nil {
		return nil, nil, err
	}
	to, err = buildspec.NewCaches(entries(o.Exports), true)
	return from, to, err
}

func entries(list []*controlapi.CacheOptionsEntry) []buildspec.Entry {
	var all []buildspec.Entry
	for _, e := range list {
		if e != nil {
			attrs := maps.Clone(e.Attrs)
			delete(attrs, "reset") // the client's business
			all = append(all, buildspec.Entry{Type: e.Type, Attrs: attrs})
		}
	}
	return all
}

// frontendOf returns the front end of a request; nil is the compiler of Dockerfiles. A request that names none and has no definition is one
// whose client is the front end.
func frontendOf(req *controlapi.SolveRequest, forwarded client.BuildFunc) (client.BuildFunc, error) {
	def := req.Definition
	switch {
	case req.Frontend != "" && def != nil && len(def.Def) > 0:
		return nil, errors.New("invalid request: it has a definition and a frontend")
	case req.Frontend == "dockerfile.v0":
		return nil, nil //nolint:nilnil // see above
	case req.Frontend != "":
		return func(ctx context.Context, c client.Client) (*client.Result, error) {
			return c.Solve(ctx, client.SolveRequest{Frontend: req.Frontend, FrontendOpt: req.FrontendAttrs, FrontendInputs: req.FrontendInputs, Evaluate: true})
		}, nil
	case def != nil:
		return solveDefinition(def), nil
	}
	return forwarded, nil
}

func solveDefinition(def *pb.Definition) client.BuildFunc {
	return func(ctx context.Context, c client.Client) (*client.Result, error) {
		return c.Solve(ctx, client.SolveRequest{Definition: def, Evaluate: true})
	}
}
