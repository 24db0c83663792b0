package control

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// Solve builds. The build ends with the request, and with the session: a client that goes away cancels it.
func (c *Controller) Solve(ctx context.Context, req *controlapi.SolveRequest) (_ *controlapi.SolveResponse, err error) {
	j, err := c.jobs.begin(ctx, req.Ref, req.SizeVT())
	if err != nil {
		return nil, err
	}
	defer c.jobs.end(j)
	ctx = j.ctx
	go c.watchSession(req.Session, j)
	o, err := options(req, c.o.Entitlements)
	if err != nil {
		return nil, err
	}
	o.Request = &history.Request{Frontend: req.Frontend, Attrs: req.FrontendAttrs}
	o.Exporters = recorded(exportersOf(req))
	o.FrontendName, o.Requests, o.ProvenanceEnv, o.Kept = req.Frontend, c.requests, c.o.ProvenanceEnv, j.kept
	client := &sessionClient{sessions: c.o.Sessions, id: req.Session, ctx: ctx}
	more := &sessionExporters{client: client, enabled: req.EnableSessionExporter, given: len(req.Exporters), defaults: defaultsOf(o)}
	if o.Frontend, err = frontendOf(req, j.front(req.FrontendInputs, more)); err != nil {
		return nil, err
	}
	o.MoreOutputs = more.outputs
	b, err := c.o.NewBuilder(c.registry(client))
	if err != nil {
		return nil, err
	}
	client.store = b.Store
	defer func() { err = bare(errors.Join(j.reason(err), client.close())) }()
	o.Client, o.Secret, o.SSH, o.HTTP, o.Events = client, client.secret, client.agent, client.http(), j.add
	o.Policy = client.policy(req.SourcePolicySession)
	res, err := b.Build(ctx, *o)
	if err != nil {
		return nil, err
	}
	stored := slices.ContainsFunc(slices.Concat(o.Outputs, more.found), func(out buildspec.Output) bool { return out.Type == buildspec.OutputImage })
	if c.o.Built != nil && stored && res.Written {
		c.o.Built(res)
	}
	resp, err := response(res)
	if err == nil && res.Image != nil && onlyStored(req) && len(more.found) == 0 {
		resp.ExporterResponse[exptypes.ExporterImageDigestKey] = res.Image.ID.String()
	}
	if err == nil && req.EnableSessionExporter {
		err = client.finish(ctx, resp.ExporterResponse)
	}
	return resp, err
}

// onlyStored reports whether an image goes into the engine's store and nowhere else. buildx then prints its digest for docker run and the like
// (docker build -q, --iidfile), which know it by its ID: nothing refers to the index of an image without a name.
func onlyStored(req *controlapi.SolveRequest) bool {
	return len(req.Exporters) > 0 && !slices.ContainsFunc(req.Exporters, func(e *controlapi.Exporter) bool {
		push, _ := strconv.ParseBool(e.GetAttrs()["push"])
		return e.GetType() != exporterMoby || push
	})
}

// bare returns the error of a build without what adds nothing to its text. grpcerrors finds the status that the client itself has sent below
// errors that wrap one, and repeats the text if it does not.
func bare(err error) error {
	for {
		var inner error
		switch e := err.(type) { //nolint:errorlint // this error, not one that it wraps
		case *builder.FailedError:
			inner = e.Err
		case interface{ Unwrap() []error }:
			if list := e.Unwrap(); len(list) == 1 {
				inner = list[0]
			}
		}
		if inner == nil {
			return err
		}
		err = inner
	}
}

// registry is a client of registries with the credentials of a build's client.
func (c *Controller) registry(client *sessionClient) *registry.Client {
	return registry.New(registry.Options{Credential: client.credential, UserAgent: "mica/" + c.o.Version})
}

// cacheManifest is the key by which the client learns the manifest of a local cache (cache/remotecache/export.go).
const cacheManifest = "cache.manifest"

// response is what the client shows and writes into files of metadata.
func response(res *builder.Result) (*controlapi.SolveResponse, error) {
	m := map[string]string{}
	for _, from := range []map[string][]byte{res.Response, res.Metadata} {
		for k, v := range from {
			m[k] = string(v)
		}
	}
	for _, made := range res.Exports { // of several, the last
		if made.Image == nil {
			continue
		}
		if err := describeImage(m, &made); err != nil {
			return nil, err
		}
	}
	if res.Cache != nil {
		raw, err := json.Marshal(res.Cache)
		if err != nil {
			return nil, err
		}
		m[cacheManifest] = string(raw)
	}
	return &controlapi.SolveResponse{ExporterResponse: m}, nil
}

// describeImage adds the digests and names of an image to a response.
func describeImage(m map[string]string, made *builder.Exported) error {
	root := made.Root
	if !oci.IsIndex(root.MediaType) {
		platform := made.Image.Config.Platform
		root.Platform = &platform
		m[exptypes.ExporterImageConfigDigestKey] = made.Image.ID.String()
	}
	raw, err := json.Marshal(root)
	if err != nil {
		return err
	}
	m[exptypes.ExporterImageDigestKey] = root.Digest.String()
	m[exptypes.ExporterImageDescriptorKey] = base64.StdEncoding.EncodeToString(raw)
	if len(made.Names) > 0 {
		m[exptypes.ExporterImageNameKey] = strings.Join(made.Names, ",")
	}
	return nil
}
