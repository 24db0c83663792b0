// Package builder makes an image from a Dockerfile: the official compiler, mica's solver, and the exporters.
package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/solver/llbsolver/compat"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/bridge"
	"github.com/micabuild/mica/internal/digestcache"
	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/recorder"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/solver/ops"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/transfer"
)

// Builder builds images in a store.
type Builder struct {
	Store  *store.Store
	Layers *layer.Layers
	Images *image.Images
	Host   *sandbox.Host
	// Registry pulls base images that are not in the store, and pushes images.
	Registry *registry.Client
}

// Result is what a build has made.
type Result struct {
	// Image is the image that was built; of several platforms that for this host, or else the last. The store has its record and
	// names if an output is an image in the store.
	Image *image.Image
	// Root is its manifest, or the index of several platforms. After a push it is that of the registries: layers are compressed
	// while they are sent.
	Root ocispec.Descriptor
	// Written is set if an output is an image, not files alone.
	Written bool
	// Names are the full names of the image.
	Names []string
	// Exports are the images of the outputs, in their order; without an image for an output that is files.
	Exports []Exported
	// Metadata is what the front end returns to the client of the build.
	Metadata map[string][]byte
	// Provenance is that of Options.Record by platform, "" for the only one (SLSA 0.2).
	Provenance map[string]json.RawMessage
	// Response is the front end's response to Options.Call.
	Response map[string][]byte
	// Cache is the manifest of a cache of type local that a Client has got.
	Cache *ocispec.Descriptor
	// Ref names the build in the history of the store.
	Ref string
	// Recorded is the build as the history has it, or as Options.Explain plans it; nil for one that is not recorded.
	Recorded *history.Build
}

// Build runs a build from end to end, and records it in the store's history. A build that fails before all of its outputs are
// written leaves every name as it was. After that its names move, and then images and caches are pushed.
func (b *Builder) Build(ctx context.Context, o Options) (*Result, error) {
	started := time.Now().UTC()
	names, err := parseTags(o.Tags)
	if err != nil {
		return nil, err
	}
	if err := o.Context.check(); err != nil {
		return nil, err
	}
	if o.At != "" {
		return b.build(ctx, o.trimmed(), names, started, nil)
	}
	if o.Call.Name != "" || o.Internal {
		return b.build(ctx, &o, names, started, nil)
	}
	rec, err := recorder.Start(ctx, b.Store, recorder.Options{
		Spec: &o.Spec, Ref: o.Ref, Started: started, Request: o.Request, Exporters: o.Exporters, Details: o.Client != nil, Plan: o.Explain, LayerSize: b.Layers.Size,
		Events: o.Events,
	})
	if err != nil && o.Explain {
		return nil, err
	}
	if err != nil { // a build that cannot be recorded is a build
		return b.build(ctx, &o, names, started, nil)
	}
	o.Events = rec.Events
	res, err := b.build(ctx, &o, names, started, rec)
	var made digest.Digest
	if res != nil {
		made, res.Ref, res.Recorded = res.Root.Digest, rec.Build().Ref, rec.Build()
		rec.Made(res.exported())
	}
	_ = rec.End(made, err) // what could not be recorded is not an error of the build
	if err != nil {
		return nil, &FailedError{Ref: rec.Build().Ref, Err: err}
	}
	if o.Explain {
		return &Result{Recorded: rec.Build()}, nil
	}
	return res, nil
}

// exported are the images of the outputs, for the history.
func (r *Result) exported() (list []history.Exported) {
	for i, made := range r.Exports {
		if made.Image != nil {
			list = append(list, history.Exported{Exporter: i, MediaType: made.Root.MediaType, Digest: made.Root.Digest, Size: made.Root.Size})
		}
	}
	return list
}

// FailedError is the error of a build that the history of the store has.
type FailedError struct {
	Ref string
	Err error
}

func (e *FailedError) Error() string { return e.Err.Error() }
func (e *FailedError) Unwrap() error { return e.Err }

func (b *Builder) build(ctx context.Context, o *Options, names []string, started time.Time, rec *recorder.Recorder) (_ *Result, err error) {
	if err := b.findCatalog(ctx, o); err != nil {
		return nil, err
	}
	if err := b.checkObjects(o); err != nil {
		return nil, err
	}
	opts := o.frontendOptions()
	allowed, err := o.entitlements()
	if err != nil {
		return nil, err
	}
	use, err := b.Store.Use(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	digests, err := digestcache.Open(b.Store.Path("cache", "digests"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, digests.Close()) }()
	base := b.newBaseImages(o)
	layouts, err := b.openLayouts(ctx, o.Contexts, opts, o.Client)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, layouts.close()) }()
	hostCerts, err := b.hostCerts(o.HostCerts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, hostCerts.remove()) }()
	reads := b.openCaches(ctx, o, rec)
	defer func() { err = errors.Join(err, reads.close()) }()
	policies, err := policies{client: o.Policy}.with(o.Policies)
	if err != nil {
		return nil, err
	}
	front := &frontend{}
	caches := &cacheWriter{b: b, rec: rec, base: base, client: o.Client}
	elsewhere, err := b.elsewhere(ctx, o, reads, caches)
	if err != nil {
		return nil, err
	}
	worker := ops.New(ops.Options{
		Store: b.Store, Layers: b.Layers, Image: base.find, Published: base.published, Layout: layouts.find, Host: b.Host, Locals: o.locals(), Sync: o.sync(), Digests: digests,
		Secret: o.Secret, SSH: o.SSH, HTTP: o.HTTP, Blob: layouts.blob, HostCerts: hostCerts.mount, KeepFailed: o.OnFailure != nil,
		KeepMounts: o.Frontend != nil, ClientErrors: o.Client != nil,
		Writable: o.Compatibility == compat.CompatibilityVersion013,
		Proxy:    o.proxyNetwork(policies, front.metadata), Elsewhere: elsewhere,
	})
	defer func() { err = errors.Join(err, worker.Close()) }()
	s := solver.New(solver.Options{
		Store: b.Store, Layers: b.Layers, Kinds: worker.Kinds(), FindBase: base.findLazy, Trees: worker.WantsTrees, Remote: reads.cache, Allowed: allowed, Events: o.Events,
		Observer: rec.Observer(), Plan: o.Explain,
	})
	reads.solver = s
	if caches.steps, err = b.openSteps(ctx, o, reads, base, caches); err != nil {
		return nil, err
	}
	defer func() { err = cmp.Or(err, caches.steps.finish()) }()
	inputs, err := o.states()
	if err != nil {
		return nil, err
	}
	requests := cmp.Or(o.Requests, NewRequests())
	*front = frontend{
		solver: s, bases: base, layouts: layouts, opts: opts, inputs: inputs, events: o.Events, checker: dockerfile.NewChecker(opts),
		record: rec, until: o.newUntil(worker), imports: reads, catalogs: o.catalogs(), containers: &containers{host: b.Host, worker: worker},
		defers: o.Frontend != nil, sorts: o.hasParameters(), policies: policies,
		images: &gateway{store: b.Store, worker: worker, run: b.Host.Run, user: opts},
		by:     newRequest(o.request(opts), requests), made: requests, kept: cmp.Or(o.Kept, new(bridge.Kept)),
	}
	defer requests.forget(worker)
	res, err := front.build(ctx, o.Frontend)
	err = errors.Join(err, front.containers.close())
	// The digests of the host's files are saved even if a step failed.
	if saveErr := digests.Save(ctx); err == nil && saveErr != nil {
		err = saveErr
	}
	if err != nil {
		if o.Client == nil { // a client elsewhere says it itself
			err = fmt.Errorf("failed to solve: %w", err)
		}
		_ = rec.End("", err) // before a user takes time to look into it
		b.inspectFailed(ctx, o, worker, err)
		return nil, err
	}
	if front.until != nil {
		return b.inspect(ctx, o, front.until)
	}
	if o.Call.Name != "" || o.Explain {
		return &Result{Response: res.Metadata}, nil
	}
	if err := verifyPlatforms(ctx, opts, res, o.Events); err != nil {
		return nil, err
	}
	if err := front.scan(ctx, o, res); err != nil {
		return nil, err
	}
	if err := o.addOutputs(ctx, res, rec); err != nil {
		return nil, err
	}
	out, err := newResponse(res)
	if err != nil {
		return nil, err
	}
	if out.attester, err = newAttester(front, o, started); err != nil {
		return nil, err
	}
	if err := out.attester.collectAll(ctx, out); err != nil {
		return nil, err
	}
	if o.catalogs() {
		if err := b.catalogAll(ctx, s, out, o.Events); err != nil {
			return nil, err
		}
	}
	if caches.cache == nil { // otherwise goroutines of caches.steps read it
		caches.cache, caches.sums = reads.used()
	}
	out.elsewhere = b.locate(ctx, s, base, out, o, caches.cache)
	made, err := b.finish(ctx, s, out, names, *o, caches)
	if err == nil && o.Request != nil {
		rec.Provenance(out.attester.complete(ctx, out))
	}
	return made, err
}

// finish fetches the missing layers of the result, and writes images, files and caches.
func (b *Builder) finish(
	ctx context.Context, s *solver.Solver, out *response, names []string, o Options, caches *cacheWriter,
) (*Result, error) {
	for _, p := range out.platforms {
		if out.elsewhere == nil {
			if err := p.fetch(ctx, s); err != nil {
				return nil, err
			}
		}
		out.keys = append(out.keys, p.result.Key)
	}
	if o.InlineCache() {
		out.inline = caches.cache
	}
	res, err := b.export(ctx, s, out, names, o)
	if err == nil && o.Record {
		res.Provenance, err = out.attester.record(ctx, out)
	}
	if err != nil || caches.cache == nil {
		return res, err
	}
	if err := caches.writeCaches(ctx, &o, out.keys); err != nil {
		return nil, err
	}
	res.Cache = caches.manifest
	return res, caches.sums.Save(ctx)
}

func (b *Builder) local() *transfer.Local {
	return &transfer.Local{Store: b.Store, Layers: b.Layers, Images: b.Images}
}

// pull pulls a base image. Without unpack, its layers are unpacked when a step needs them.
func (b *Builder) pull(ctx context.Context, name reference.Named, platform *ocispec.Platform, unpack bool, progress transfer.Progress) error {
	o := transfer.PullOptions{Progress: progress, Unpack: unpack}
	if platform != nil {
		o.Platforms = []ocispec.Platform{*platform}
	}
	_, err := transfer.Pull(ctx, b.Registry, b.local(), name, o)
	return err
}

// parseTags validates names and completes them: docker.io/library/nginx:latest.
func parseTags(tags []string) ([]string, error) {
	var names []string
	for _, t := range tags {
		named, err := image.ParseName(t)
		if err != nil {
			return nil, fmt.Errorf("invalid tag %q: %w", t, err)
		}
		if _, ok := named.(reference.Digested); ok {
			return nil, fmt.Errorf("invalid tag %q: a name with a digest cannot be given to an image", t)
		}
		full := reference.TagNameOnly(named).String()
		if !slices.Contains(names, full) {
			names = append(names, full)
		}
	}
	return names, nil
}
