// Package recorder records a build in the history of its store while it is solved, and explains its steps.
package recorder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/explain"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/store"
)

// Recorder records one build. Observer, Graph, Image and End of a nil Recorder do nothing.
type Recorder struct {
	builds  *history.Builds
	size    func(digest.Digest) (int64, error)
	writer  *history.Writer // nil for a plan
	forward solver.Events

	mu        sync.Mutex
	build     *history.Build
	steps     map[digest.Digest]*history.Step
	lines     map[digest.Digest]int                      // of operations, in the Dockerfile
	bases     map[string]dockerspec.DockerOCIImageConfig // by the digests of the manifests, and by their names
	changed   []*history.Step                            // since the last update
	text      bool                                       // the Dockerfile is not in an update yet
	timer     *time.Timer                                // of the next update; nil for none
	grown     bool                                       // the build has recorded more than itself
	explainer *explain.Explainer
	caches    caches
	secrets   *secrets
	details   bool  // of errors are recorded
	err       error // the first failure to record; the build goes on
	written   bool  // the end of the build
}

// Options describe the build that is recorded.
type Options struct {
	Spec *buildspec.Spec
	// Ref names the build; "" for a new name.
	Ref     string
	Started time.Time
	// Request and Exporters are what a client of BuildKit's API has asked for; nil for another build.
	Request   *history.Request
	Exporters []history.Exporter
	// Details is true if errors are recorded with what BuildKit's clients show of them.
	Details bool
	// Plan is true for a build that is only planned: nothing of it is recorded.
	Plan bool
	// LayerSize returns the size of a layer, as docker history shows it; nil if sizes are not recorded.
	LayerSize func(digest.Digest) (int64, error)
	// Events receives the progress that the recorder has seen; nil for nobody.
	Events solver.Events
}

// Start records the start of a build in a store.
func Start(ctx context.Context, s *store.Store, o Options) (*Recorder, error) {
	builds := history.Open(s)
	if o.Plan {
		builds = history.Transient(s)
	}
	build := describe(&o)
	r := &Recorder{
		builds: builds, size: o.LayerSize, forward: o.Events, build: build, steps: map[digest.Digest]*history.Step{},
		lines: map[digest.Digest]int{}, bases: map[string]dockerspec.DockerOCIImageConfig{}, explainer: explain.New(builds, build),
		secrets: newSecrets(o.Spec.BuildArgs), details: o.Details,
	}
	build.Request = r.request(o.Request)
	r.Exporters(o.Exporters)
	r.explainer.Lock = &r.mu
	if o.Plan {
		return r, nil
	}
	var err error
	r.writer, err = builds.Begin(ctx, build)
	return r, err
}

// describe is a build as its options say, without credentials.
func describe(o *Options) *history.Build {
	spec := o.Spec
	build := &history.Build{
		Ref: cmp.Or(o.Ref, identity.NewID()), Context: redact.URLs(contextName(spec.Path)), Dockerfile: redact.URLs(dockerfileName(spec)), Target: spec.Target,
		Names: spec.Tags, Args: map[string]string{}, Contexts: map[string]string{}, Started: o.Started,
	}
	for k, v := range spec.BuildArgs {
		switch {
		case isProxy(k): // often with a password, and in no key
		case redact.IsSecret(k):
			build.Args[k] = digest.FromString(v).String()
		default:
			build.Args[k] = redact.URLs(v)
		}
	}
	for name, value := range spec.Contexts {
		build.Contexts[name] = redact.URLs(contextName(value))
	}
	for _, p := range spec.Platforms {
		build.Platforms = append(build.Platforms, platforms.FormatAll(platforms.Normalize(p)))
	}
	if len(build.Platforms) == 0 {
		build.Platforms = []string{platforms.FormatAll(platforms.Normalize(platforms.DefaultSpec()))}
	}
	build.Line = history.LineOf(build.Context, build.Dockerfile, build.Target)
	return build
}

// Build returns the build as far as it is recorded. It is complete after End.
func (r *Recorder) Build() *history.Build { return r.build }

// contextName is a build's context, by its absolute path if it is a directory.
func contextName(path string) string {
	if path == "" || path == "-" || buildspec.IsRemote(path) {
		return path
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// dockerfileName is a build's Dockerfile: the same for all ways to name one file.
func dockerfileName(spec *buildspec.Spec) string {
	if spec.Path == "" || spec.Path == "-" || buildspec.IsRemote(spec.Path) || spec.Dockerfile == "-" {
		return spec.Dockerfile
	}
	if spec.Dockerfile == "" {
		return filepath.Join(contextName(spec.Path), "Dockerfile")
	}
	return contextName(spec.Dockerfile)
}

// isProxy reports whether a build argument is one of the predefined proxies.
func isProxy(name string) bool {
	switch strings.ToLower(name) {
	case "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy":
		return true
	}
	return false
}

// Observer returns the recorder as the solver knows it; nil for none.
func (r *Recorder) Observer() solver.Observer {
	if r == nil {
		return nil
	}
	return r
}

// keep remembers the first failure to record.
func (r *Recorder) keep(err error) {
	if r.err == nil && err != nil {
		r.err = err
	}
}

// Events records progress, and passes it on.
func (r *Recorder) Events(st *solver.Status) {
	r.mu.Lock()
	for _, v := range st.Vertexes {
		r.vertex(v)
	}
	r.update()
	for _, l := range st.Logs {
		r.log(history.Log{Vertex: l.Vertex, Stream: l.Stream, Time: l.Timestamp, Data: l.Data})
	}
	r.mu.Unlock()
	if r.forward != nil {
		r.forward(st)
	}
}

// updateEvery is how long what has changed waits to be recorded while the build runs. A rebuild that is cached has ended before.
const updateEvery = 20 * time.Millisecond

// update records soon what has changed, for those who watch the build, and for the case that it is killed.
func (r *Recorder) update() {
	if r.writer != nil && r.timer == nil && r.build.Completed.IsZero() {
		r.timer = time.AfterFunc(updateEvery, r.updateNow)
	}
}

func (r *Recorder) updateNow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = nil
	if !r.build.Completed.IsZero() || !r.text && len(r.changed) == 0 {
		return
	}
	text := ""
	if r.text {
		text = r.build.Text
	}
	r.keep(r.writer.Update(text, r.changed...))
	r.changed, r.text = r.changed[:0], false
}

// changes notes that a step has changed.
func (r *Recorder) changes(s *history.Step) {
	if !slices.Contains(r.changed, s) {
		r.changed = append(r.changed, s)
	}
}

func (r *Recorder) log(l history.Log) {
	if r.writer != nil {
		r.keep(r.writer.Log(l))
	}
}

func (r *Recorder) vertex(v *bkclient.Vertex) {
	s := r.steps[v.Digest]
	if s == nil {
		s = &history.Step{Vertex: v.Digest, Name: r.secrets.mask(v.Name), Inputs: v.Inputs, Line: r.lines[v.Digest]}
		r.steps[v.Digest] = s
		r.build.Steps = append(r.build.Steps, s)
		r.explainer.Announced()
		r.caches.announced()
	}
	r.changes(s)
	if v.Started != nil && (s.Started.IsZero() || s.State == history.StepCached && v.Started.After(s.Completed)) {
		s.Started, s.Completed, s.State = *v.Started, time.Time{}, "" // it may run after its result was found, and then lost
	}
	if v.Completed == nil {
		return
	}
	s.Completed = *v.Completed
	switch {
	case v.Cached:
		s.State = history.StepCached
	case v.Error == context.Canceled.Error() || strings.HasSuffix(v.Error, ": "+context.Canceled.Error()):
		s.State = history.StepCanceled
	case v.Error != "":
		s.State, s.Error = history.StepFailed, r.secrets.mask(v.Error)
	default:
		s.State = history.StepRan
	}
}

// Graph records where the operations of a graph are in the Dockerfile, before it is solved.
func (r *Recorder) Graph(def *pb.Definition) {
	if r == nil || def.Source == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, info := range def.Source.Infos {
		if r.build.Text == "" && len(info.Data) <= history.MaxText {
			r.build.Text = redact.URLs(string(info.Data))
			r.build.Source = r.definition(info.Definition)
			r.text = true
			r.update()
		}
	}
	for op, list := range def.Source.Locations {
		if len(list.Locations) > 0 && len(list.Locations[0].Ranges) > 0 {
			r.lines[digest.Digest(op)] = int(list.Locations[0].Ranges[0].Start.Line)
		}
	}
}

// Image records the environment of a base image, its user and so on.
func (r *Recorder) Image(ref string, manifest digest.Digest, config []byte) {
	if r == nil {
		return
	}
	var img dockerspec.DockerOCIImage
	if json.Unmarshal(config, &img) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bases[manifest.String()], r.bases[ref] = img.Config, img.Config
}

// Runs explains a step that runs.
func (r *Recorder) Runs(ctx context.Context, v *solver.Vertex, key buildcache.Key, miss solver.Miss) []string {
	err := r.saveFiles(ctx, &key)
	nearest := r.nearest(miss.Remote)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(err)
	s := r.steps[v.Digest]
	if s == nil {
		return nil
	}
	r.key(s, &key)
	describeSource(s, v.Op.GetSource())
	missed := map[solver.Lookup]history.Kind{solver.NoRecord: history.Pruned, solver.NoLayers: history.Gone, solver.NotAsked: history.NoCache}
	if lost(nearest) {
		s.Causes = []history.Cause{{Kind: history.Lost}}
	} else {
		s.Causes = r.explainer.Why(s, missed[miss.Store])
	}
	s.Misses = r.misses(s, v, nearest)
	r.explainCached(s)
	if r.writer == nil {
		s.State = history.StepPlanned
	}
	r.grown = true
	r.changes(s)
	r.update()
	return r.build.Notes(s)
}

// Found keeps what a step read that a remote cache has.
func (r *Recorder) Found(ctx context.Context, _ *solver.Vertex, key buildcache.Key) {
	err := r.saveFiles(ctx, &key)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(err)
}

// saveFiles keeps the lists of the files that a step reads.
func (r *Recorder) saveFiles(ctx context.Context, key *buildcache.Key) error {
	var errs []error
	for i, from := range key.Origins {
		sum := digest.Digest(key.Ingredients[i].Value)
		if from.List == nil || r.builds.HasFiles(sum) {
			continue
		}
		l, err := from.List(ctx)
		if err == nil && l.Digest() == sum { // files that have changed since then explain nothing
			errs = append(errs, r.builds.SaveFiles(sum, l.Marshal()))
		}
	}
	return errors.Join(errs...)
}

// explainCached explains the cached steps that the causes of a step refer to: they gave another result than in the build before.
func (r *Recorder) explainCached(s *history.Step) {
	for _, c := range s.Causes {
		from := r.steps[c.Step]
		if from == nil || from.State != history.StepCached || len(from.Causes) > 0 {
			continue
		}
		from.Causes = r.explainer.Differences(from)
		r.explainCached(from)
	}
}

// key records the key of a step.
func (r *Recorder) key(s *history.Step, key *buildcache.Key) {
	s.Key = key.Digest()
	r.keep(r.builds.SaveIngredients(s.Key, func() []history.Ingredient {
		list := make([]history.Ingredient, len(key.Ingredients))
		for i, in := range key.Ingredients {
			list[i] = history.Ingredient{Kind: in.Kind, Name: in.Name, Value: in.Value, Input: key.Origins[i].Input}
		}
		return list
	}))
}

// Solved records the results of an operation.
func (r *Recorder) Solved(v *solver.Vertex, key *buildcache.Key, results []*solver.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.steps[v.Digest]
	if s == nil {
		return
	}
	if key != nil {
		r.key(s, key)
	}
	if len(results) > 0 && results[0] != nil { // nil if a remote cache had only other outputs
		s.Output = results[0].Chain.ID()
		r.layer(s, results[0].Chain)
	}
	src := v.Op.GetSource()
	describeSource(s, src)
	if scheme, rest, _ := strings.Cut(src.GetIdentifier(), "://"); scheme == "docker-image" || scheme == "oci-layout" {
		base, ok := r.bases[rest]
		if _, d, _ := strings.Cut(rest, "@"); !ok {
			base = r.bases[d]
		}
		s.Source.Env, s.Source.User, s.Source.Dir, s.Source.Shell, s.Source.OnBuild = base.Env, base.User, base.WorkingDir, base.Shell, base.OnBuild
		s.Source.Layers = results[0].Chain.DiffIDs()
	}
}

// layer records the layer that a step added, if it ran.
func (r *Recorder) layer(s *history.Step, made buildcache.Chain) {
	if r.size == nil || s.Key == "" || s.Started.IsZero() || made.Len() == 0 {
		return
	}
	if len(s.Inputs) > 0 && r.steps[s.Inputs[0]] != nil && r.steps[s.Inputs[0]].Output == s.Output {
		return // it changed nothing
	}
	links := made.Links()
	top := links[len(links)-1].DiffID
	if n, err := r.size(top); err == nil {
		s.Layer, s.Size = top, n
	}
}

// describeSource records what the definition of a source says; nothing for another operation.
func describeSource(s *history.Step, src *pb.SourceOp) {
	if src == nil {
		return
	}
	s.Source = &history.Source{Identifier: redact.URLs(src.Identifier)}
	if url := src.Attrs[pb.AttrFullRemoteURL]; url != "" {
		_, ref, named := strings.Cut(src.Identifier, "#")
		if named {
			url += "#" + ref
		}
		s.Source.URL = redact.URLs(url)
	}
	_ = json.Unmarshal([]byte(src.Attrs[pb.AttrExcludePatterns]), &s.Source.Excludes)
}

// Blocked notes, in a plan, that a step may run after others.
func (r *Recorder) Blocked(v *solver.Vertex) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.steps[v.Digest]
	if s == nil {
		return
	}
	s.State = history.StepBlocked
	for _, in := range v.Inputs {
		if from := r.steps[in.Vertex.Digest]; from != nil && (from.State == history.StepPlanned || from.State == history.StepBlocked) {
			s.Causes = append(s.Causes, history.Cause{Kind: history.After, Step: from.Vertex})
		}
	}
}

// End records how the build ended: with an image, by the digest of its manifest or index, "" for none, or with an error. It returns
// the first failure to record something. What it is told later does not count, but a record that could not be written is written then: what
// a failed step has left on a full disk may have been removed.
func (r *Recorder) End(image digest.Digest, err error) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.build.Completed.IsZero() {
		r.complete(image, err)
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	if r.writer == nil || r.written {
		return r.err
	}
	endErr := r.writer.End()
	r.written = endErr == nil
	r.keep(endErr)
	r.keep(r.builds.Trim(r.grown))
	return r.err
}

func (r *Recorder) complete(image digest.Digest, err error) {
	r.build.Completed = time.Now().UTC()
	switch {
	case err == nil:
		r.build.Status = history.Completed
		r.build.Image = image
	case errors.Is(err, context.Canceled):
		r.build.Status = history.Canceled
	default:
		r.build.Status, r.build.Error = history.Failed, r.redact(err.Error())
	}
	if err != nil && r.details {
		r.build.Failure = r.failure(err)
	}
}
