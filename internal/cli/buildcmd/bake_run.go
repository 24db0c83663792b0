package buildcmd

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/bake"
	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/progress"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/solver"
)

// baking is several targets that are built at once.
type baking struct {
	app     *command.App
	targets map[string]*bakeTarget
	builder *builder.Builder
	display *progress.Build
	links   *bakeLinks
	done    map[string]chan struct{}   // closed when a target is built
	results map[string]*builder.Result // of those whose channels are closed
	record  bool                       // the metadata have their provenance
	inspect *bakeInspection            // nil to look into nothing
	remote  engine                     // runs the steps of targets with an On
}

// build builds the targets: each when those it links to are built, otherwise all at the same time.
func (f *bakeFlags) build(ctx context.Context, app *command.App, def *bake.Definition, targets map[string]*bakeTarget) (err error) {
	// The results of targets must not be collected before others have used them.
	use, err := app.Store.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	links, err := newBakeLinks(app, targets)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, links.remove(context.WithoutCancel(ctx))) }()
	host, err := app.NewHost(f.runtime)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	inspect, err := f.inspect.open(app)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if err := checkOn(t.spec, inspect); err != nil {
			return err
		}
	}
	display, err := progress.StartBuild(ctx, app.Stderr, f.progress)
	if err != nil {
		return err
	}
	b := &baking{
		app: app, targets: targets, display: display, links: links,
		builder: &builder.Builder{Store: app.Store, Layers: app.Layers, Images: app.Images, Host: host, Registry: app.Registry()},
		done:    map[string]chan struct{}{}, results: map[string]*builder.Result{},
		record: f.metadataFile != "" && metadataProvenance() != "", inspect: newBakeInspection(inspect, display, targets),
	}
	err = errors.Join(b.all(ctx), b.remote.close())
	display.Finish()
	app.PrintNotes()
	if err != nil {
		return buildError(app, err, inspect.hasShown(), "bake")
	}
	if err := f.writeMetadata(b); err != nil {
		return err
	}
	if anyCall(targets) {
		return f.printResponses(app, def, b)
	}
	display.PrintWarnings()
	return nil
}

func (b *baking) all(ctx context.Context) error {
	ctx, stop := b.inspect.stoppable(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	each, end := canceled(ctx)
	defer end()
	for name := range b.targets {
		b.done[name] = make(chan struct{})
	}
	results := make(chan func(), len(b.targets))
	for _, t := range b.targets {
		group.Go(crash.Guard(func() error {
			defer b.inspect.ended(t.name)
			for _, other := range t.links {
				select {
				case <-b.done[other]:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			res, err := b.one(each, t)
			if err != nil {
				return fmt.Errorf("target %s: %w", t.name, err)
			}
			results <- func() { b.results[t.name] = res }
			close(b.done[t.name])
			return nil
		}))
	}
	err := b.inspect.failure(group.Wait())
	close(results)
	for record := range results {
		record()
	}
	return err
}

// canceled returns a context that ends with ctx, without its cause unless that is a cancellation: the error of the target that failed is
// not one of the others.
func canceled(ctx context.Context) (context.Context, func()) {
	each, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if !errors.Is(cause, context.Canceled) {
			cause = context.Canceled
		}
		cancel(cause)
	})
	return each, func() {
		stop()
		cancel(nil)
	}
}

// one builds a target whose links are built.
func (b *baking) one(ctx context.Context, t *bakeTarget) (_ *builder.Result, err error) {
	o, err := buildOptions(b.app, t.spec)
	if err != nil {
		return nil, err
	}
	source, cleanup, err := openContext(ctx, b.app, t.spec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	o.Context, o.Elsewhere = source, b.remote.elsewhere(t.spec)
	for name, other := range t.links {
		o.Contexts[name] = b.links.context(other)
	}
	for i := range o.Outputs {
		o.Outputs[i].Lazy = o.Outputs[i].Lazy && !b.links.wanted[t.name]
	}
	o.Events, o.Record, o.OnFailure = b.events(t.name), b.record, b.inspect.onFailure(t.name)
	res, err := b.builder.Build(ctx, *o)
	if err != nil || o.Call.Name != "" {
		return res, err
	}
	return res, b.links.add(ctx, t, res)
}

// events shows the progress of a target under its name, if there are several.
func (b *baking) events(name string) solver.Events {
	if len(b.targets) == 1 {
		return b.display.Events
	}
	return func(st *solver.Status) { b.display.Events(progress.OfTarget(name, st)) }
}
