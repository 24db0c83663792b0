package control_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/google/go-cmp/cmp"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/errdefs"
	policypb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc/test/bufconn"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/control"
	"github.com/micabuild/mica/internal/grpcserver"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/recorder"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/store"
)

// server is a server with an empty store, and a client of it.
type server struct {
	store   *store.Store
	address string
	client  *client.Client
	built   chan string // the names of images that came into the store
}

func start(t *testing.T) *server {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	host, err := sandbox.NewHost(s, "")
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := session.NewManager()
	if err != nil {
		t.Fatal(err)
	}
	rpc, built := control.NewServer(), make(chan string, 100)
	control.New(control.Options{
		Built:    func(r *builder.Result) { built <- strings.Join(r.Names, " ") },
		Sessions: sessions, Store: s, Entitlements: []string{"network.host"}, Version: "1.2.3", NewBuilder: func(c *registry.Client) (*builder.Builder, error) {
			s, err := store.Open(s.Root())
			layers := layer.New(s)
			return &builder.Builder{Store: s, Layers: layers, Images: image.New(s, layers), Host: host, Registry: c}, err
		},
	}).Register(rpc)
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = rpc.Serve(l) })
	c, err := client.New(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		rpc.Stop()
		running.Wait()
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	return &server{s, "unix://" + path, c, built}
}

// write writes files into a new directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// options are a build of a directory.
func options(t *testing.T, dir string) client.SolveOpt {
	t.Helper()
	f, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	return client.SolveOpt{
		Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{}, LocalMounts: map[string]fsutil.FS{"context": f, "dockerfile": f},
	}
}

// solve builds, and returns the names of the steps with their errors.
func (s *server) solve(t *testing.T, def *llb.Definition, o client.SolveOpt) (map[string]string, *client.SolveResponse, error) {
	t.Helper()
	events := make(chan *client.SolveStatus)
	steps := map[string]string{}
	var watching sync.WaitGroup
	watching.Go(func() { collect(steps, events) })
	res, err := s.client.Solve(t.Context(), def, o, events)
	watching.Wait()
	return steps, res, err
}

func collect(steps map[string]string, events chan *client.SolveStatus) {
	for st := range events {
		for _, v := range st.Vertexes {
			steps[v.Name] = v.Error
		}
	}
}

func list(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		data, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[n.Name()] = string(data)
	}
	return files
}

func TestInfo(t *testing.T) {
	t.Parallel()
	s := start(t)
	info, err := s.client.Info(t.Context())
	if err != nil || info.BuildkitVersion.Version != "1.2.3" || !strings.HasPrefix(info.BuildkitVersion.DockerfileVersion, "1.") {
		t.Errorf("%+v, %v", info, err)
	}
	workers, err := s.client.ListWorkers(t.Context())
	if err != nil || len(workers) != 1 || len(workers[0].Platforms) == 0 || workers[0].Labels["org.mobyproject.buildkit.worker.snapshotter"] == "" {
		t.Errorf("%+v, %v", workers, err)
	}
}

// TestInfoForDocker: buildx and build actions know the BuildKit of a Docker engine by the suffix of its version.
func TestInfoForDocker(t *testing.T) {
	t.Parallel()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	rpc := control.NewServer()
	control.New(control.Options{Store: s, Version: "v1.2.3"}).Register(rpc)
	l := bufconn.Listen(1 << 16)
	var running sync.WaitGroup
	running.Go(func() { _ = rpc.Serve(upgradedListener{l}) })
	c, err := client.New(t.Context(), "unix:///", client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		rpc.Stop()
		running.Wait()
	})
	info, err := c.Info(t.Context())
	if err != nil || info.BuildkitVersion.Version != "v1.2.3-moby" {
		t.Errorf("%+v, %v", info, err)
	}
	workers, err := c.ListWorkers(t.Context())
	if err != nil || len(workers) != 1 || workers[0].BuildkitVersion.Version != "v1.2.3-moby" {
		t.Errorf("%+v, %v", workers, err)
	}
}

// upgradedListener accepts what Docker's API would hand over.
type upgradedListener struct{ net.Listener }

func (l upgradedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return grpcserver.Upgrade(c), nil
}

func TestDockerfileToDirectory(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a b /\n", "a": "1", "b": "2"}))
	out := t.TempDir()
	o.Exports = []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: out}}
	steps, _, err := s.solve(t, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "2"}, list(t, out)); diff != "" {
		t.Error(diff)
	}
	if _, ok := steps["[1/1] COPY a b /"]; !ok {
		t.Errorf("progress: %v", steps)
	}
	builds, err := history.Open(s.store).List()
	if err != nil || len(builds) != 1 || builds[0].Status != history.Completed {
		t.Errorf("history: %v, %v", builds, err)
	}
}

// sink is the file of an output, as a client opens it.
type sink struct{ bytes.Buffer }

func (*sink) Close() error { return nil }

func (s *sink) open(map[string]string) (io.WriteCloser, error) { return s, nil }

func (s *sink) names(t *testing.T) []string {
	t.Helper()
	var names []string
	for r := tar.NewReader(&s.Buffer); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestSeveralOutputs(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "1"}))
	var files, oci sink
	o.Exports = []client.ExportEntry{
		{Type: client.ExporterTar, Output: files.open},
		{Type: client.ExporterOCI, Output: oci.open},
		{Type: client.ExporterImage, Attrs: map[string]string{"name": "made:1"}},
	}
	_, res, err := s.solve(t, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a"}, files.names(t)); diff != "" {
		t.Error(diff)
	}
	if names := oci.names(t); !slices.Contains(names, "index.json") {
		t.Errorf("%q", names)
	}
	img, err := image.New(s.store, layer.New(s.store)).Find(t.Context(), "made:1")
	if err != nil {
		t.Fatal(err)
	}
	if res.ExporterResponse["containerimage.config.digest"] != img.ID.String() || res.ExporterResponse["image.name"] != "docker.io/library/made:1" {
		t.Errorf("response: %v", res.ExporterResponse)
	}
}

func TestDefinition(t *testing.T) {
	t.Parallel()
	s := start(t)
	def, err := llb.Scratch().File(llb.Mkfile("/hello", 0o644, []byte("x"))).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	_, res, err := s.solve(t, def, client.SolveOpt{Exports: []client.ExportEntry{
		{Type: client.ExporterLocal, OutputDir: out}, {Type: client.ExporterImage, Attrs: map[string]string{"name": "llb"}},
	}})
	if err != nil || res.ExporterResponse["containerimage.digest"] == "" {
		t.Fatal(res, err)
	}
	if diff := cmp.Diff(map[string]string{"hello": "x"}, list(t, out)); diff != "" {
		t.Error(diff)
	}
	img, err := image.New(s.store, layer.New(s.store)).Find(t.Context(), "llb")
	if err != nil || img.Config.Config.WorkingDir != "/" || len(img.Config.Config.Env) != 1 || len(img.Chain()) != 1 {
		t.Errorf("%+v, %v", img, err)
	}
}

// TestErrors: clients get the place of an error in the Dockerfile, and the step that failed.
func TestErrors(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY missing /\n"}))
	steps, _, err := s.solve(t, nil, o)
	if err == nil || !regexp.MustCompile(`failed to compute cache key: failed to calculate checksum of ref \S+: "/missing": not found$`).MatchString(err.Error()) || strings.Count(err.Error(), "failed to solve") != 1 {
		t.Fatal(err)
	}
	sources := errdefs.Sources(err)
	if len(sources) != 1 || sources[0].Ranges[0].Start.Line != 2 || !strings.HasPrefix(string(sources[0].Info.Data), "FROM scratch") {
		t.Errorf("places: %v", sources)
	}
	var vertex *errdefs.VertexError
	if !errors.As(err, &vertex) || vertex.Digest == "" {
		t.Errorf("step: %v", err)
	}
	if steps["[1/1] COPY missing /"] == "" {
		t.Errorf("progress: %v", steps)
	}
	if _, _, err := s.solve(t, nil, client.SolveOpt{Frontend: "nothing.v0"}); err == nil || !strings.Contains(err.Error(), "frontend nothing.v0 is not supported") {
		t.Error(err)
	}
	denied := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\n"}))
	denied.SourcePolicy = &policypb.Policy{Rules: []*policypb.Rule{{Action: policypb.PolicyAction_DENY, Selector: &policypb.Selector{Identifier: "*"}}}}
	if _, _, err := s.solve(t, nil, denied); err == nil || !strings.Contains(err.Error(), `source "local://dockerfile" denied by policy`) {
		t.Error(err)
	}
	o.Exports = []client.ExportEntry{{Type: "cake"}}
	if _, _, err := s.solve(t, nil, o); err == nil || !strings.Contains(err.Error(), "unknown output type") {
		t.Error(err)
	}
}

// build runs a build whose front end is a function of the client.
func (s *server) build(t *testing.T, o client.SolveOpt, f gwclient.BuildFunc) (*client.SolveResponse, error) {
	t.Helper()
	return s.client.Build(t.Context(), o, "test", f, nil)
}

// TestClientAsFrontend: a front end in the client solves graphs, reads their files, and returns what is exported.
func TestClientAsFrontend(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "1"}))
	out := t.TempDir()
	o.Exports = []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: out}}
	_, err := s.build(t, o, func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		res, err := c.Solve(ctx, gwclient.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: c.BuildOpts().Opts})
		if err != nil {
			return nil, err
		}
		ref, err := res.SingleRef()
		if err != nil {
			return nil, err
		}
		if data, err := ref.ReadFile(ctx, gwclient.ReadRequest{Filename: "a"}); err != nil || string(data) != "1" {
			t.Errorf("read: %q, %v", data, err)
		}
		if list, err := ref.ReadDir(ctx, gwclient.ReadDirRequest{Path: "/"}); err != nil || len(list) != 1 || list[0].Path != "a" {
			t.Errorf("list: %v, %v", list, err)
		}
		if st, err := ref.StatFile(ctx, gwclient.StatRequest{Path: "/a"}); err != nil || st.Size != 1 {
			t.Errorf("stat: %v, %v", st, err)
		}
		if err := ref.Evaluate(ctx); err != nil {
			t.Errorf("evaluate: %v", err)
		}
		st, err := ref.ToState()
		if err != nil {
			return nil, err
		}
		def, err := st.File(llb.Mkfile("/b", 0o644, []byte("2"))).Marshal(ctx)
		if err != nil {
			return nil, err
		}
		return c.Solve(ctx, gwclient.SolveRequest{Definition: def.ToPB()})
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "2"}, list(t, out)); diff != "" {
		t.Error(diff)
	}
	o = options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\n"}))
	if _, err := s.build(t, o, func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		return c.Solve(ctx, gwclient.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"requestid": "none"}})
	}); err == nil || strings.Count(err.Error(), "unsupported request none") != 2 {
		t.Errorf("an error that came from the client again: %v", err) // BuildKit's clients show it twice
	}
	fault := errors.New("a fault of the front end")
	if _, err := s.build(t, options(t, t.TempDir()), func(context.Context, gwclient.Client) (*gwclient.Result, error) {
		return nil, fault
	}); err == nil || !strings.Contains(err.Error(), fault.Error()) {
		t.Errorf("an error of the front end: %v", err)
	}
}

// TestKeptContext: the files of a directory with a key are kept between builds, and follow the client's; another client's are not mixed in.
func TestKeptContext(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "Dockerfile\n.dockerignore\n", "a": "1", "b": "2"})
	get := func(dir, key string) map[string]string {
		t.Helper()
		o, out := options(t, dir), t.TempDir()
		o.SharedKey, o.Exports = key, []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: out}}
		if _, _, err := s.solve(t, nil, o); err != nil {
			t.Fatal(err)
		}
		return list(t, out)
	}
	want := func(got, want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	want(get(dir, "key"), map[string]string{"a": "1", "b": "2"})
	if err := errors.Join(os.Remove(filepath.Join(dir, "a")), os.WriteFile(filepath.Join(dir, "c"), []byte("3"), 0o600)); err != nil {
		t.Fatal(err)
	}
	want(get(dir, "key"), map[string]string{"b": "2", "c": "3"})
	other := write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "Dockerfile\n.dockerignore\n", "d": "4"})
	want(get(other, "another"), map[string]string{"d": "4"})
	want(get(other, ""), map[string]string{"d": "4"})
	want(get(dir, "key"), map[string]string{"b": "2", "c": "3"})
}

// TestWithoutKey: clients without a key keep one directory. A file of one is not taken for that of another if somebody has set their times,
// and is not sent again if the time tells when it was written.
func TestWithoutKey(t *testing.T) {
	t.Parallel()
	s := start(t)
	written, set := time.Unix(1_700_000_000, 123_456_789), time.Unix(1_700_000_000, 0)
	made := func(at time.Time, text string) string {
		dir := write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\n", "f": text})
		if err := os.Chtimes(filepath.Join(dir, "f"), at, at); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	size := 1 << 20
	one, two := strings.Repeat("1", size), strings.Repeat("2", size)
	for _, test := range []struct {
		name, dir, want string
		sent            bool
	}{
		{"first", made(written, one), one, true},
		{"unchanged", made(written, one), one, false},
		{"written at another time", made(written.Add(time.Nanosecond), two), two, true},
		{"of a set time", made(set, one), one, true},
		{"of another client, of the same time", made(set, two), two, true},
	} {
		o, out := options(t, test.dir), t.TempDir()
		o.Exports = []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: out}}
		sent := s.sent(t, o)["transferring context:"]
		if got := list(t, out)["f"]; got != test.want {
			t.Errorf("%s: a file of %d bytes that begins with %.1q", test.name, len(got), got)
		}
		if (sent > int64(size)) != test.sent {
			t.Errorf("%s: %d bytes are sent", test.name, sent)
		}
	}
}

// TestCanceledBuild: a client that goes away ends its build.
func TestCanceledBuild(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.client.Build(ctx, options(t, t.TempDir()), "test", func(ctx context.Context, _ gwclient.Client) (*gwclient.Result, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}, nil)
	if err == nil {
		t.Fatal("no error")
	}
}

// TestHistory: builds of the socket are in the history, which clients list, watch again and remove.
func TestHistory(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
	o.Ref = "first"
	if _, _, err := s.solve(t, nil, o); err != nil {
		t.Fatal(err)
	}
	broken := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY missing /\n"}))
	broken.Ref = "second"
	if _, _, err := s.solve(t, nil, broken); err == nil {
		t.Fatal("no error")
	}
	hidden := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\n"}))
	hidden.Internal = true
	if _, _, err := s.solve(t, nil, hidden); err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string][]string{"": {"second", "first"}, "status==error": {"second"}, "ref==first": {"first"}, "ref==none": nil} {
		req := &controlapi.BuildHistoryRequest{EarlyExit: true}
		if filter != "" {
			req.Filter = []string{filter}
		}
		if diff := cmp.Diff(want, s.listed(t, req)); diff != "" {
			t.Errorf("filter %q: %s", filter, diff)
		}
	}
	s.checkProvenance(t, "first")
	steps := s.watched(t, "second")
	if !strings.Contains(steps["[1/1] COPY missing /"], "not found") {
		t.Errorf("progress: %v", steps)
	}
	if _, err := s.client.ControlClient().UpdateBuildHistory(t.Context(), &controlapi.UpdateBuildHistoryRequest{Ref: "first", Delete: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"second"}, s.listed(t, &controlapi.BuildHistoryRequest{EarlyExit: true})); diff != "" {
		t.Error(diff)
	}
	if _, err := s.client.ControlClient().UpdateBuildHistory(t.Context(), &controlapi.UpdateBuildHistoryRequest{Ref: "second", Delete: true}); err != nil {
		t.Fatal(err)
	}
	if left := s.content(t); len(left) != 0 {
		t.Errorf("content of removed builds: %v", left)
	}
}

// content lists what clients can read.
func (s *server) content(t *testing.T) []digest.Digest {
	t.Helper()
	var all []digest.Digest
	if err := proxy.NewContentStore(s.client.ContentClient()).Walk(t.Context(), func(i content.Info) error {
		all = append(all, i.Digest)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// checkProvenance reads the provenance that a record refers to.
func (s *server) checkProvenance(t *testing.T, ref string) {
	t.Helper()
	stream, err := s.client.ControlClient().ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{EarlyExit: true, Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	e, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	store := proxy.NewContentStore(s.client.ContentClient())
	for _, d := range []*controlapi.Descriptor{e.Record.Result.Attestations[0], e.Record.Trace} {
		data, err := content.ReadBlob(t.Context(), store, ocispec.Descriptor{Digest: digest.Digest(d.Digest), Size: d.Size})
		if err != nil || int64(len(data)) != d.Size {
			t.Errorf("%s: %d bytes, %v", d.MediaType, len(data), err)
		}
	}
	if all := s.content(t); !slices.Contains(all, digest.Digest(e.Record.Trace.Digest)) {
		t.Errorf("content %v without %s", all, e.Record.Trace.Digest)
	}
	if _, err := store.Info(t.Context(), digest.FromString("x")); err == nil {
		t.Error("content of nothing")
	}
}

// TestProvenanceOfImagesAlone: what buildx asks for by default has no place in an archive, and none in files.
func TestProvenanceOfImagesAlone(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
	o.FrontendAttrs["attest:provenance"] = "mode=min,inline-only=true"
	var archive, files sink
	o.Exports = []client.ExportEntry{
		{Type: client.ExporterDocker, Output: archive.open}, {Type: client.ExporterTar, Output: files.open},
		{Type: client.ExporterImage, Attrs: map[string]string{"name": "attested"}},
	}
	_, _, err := s.solve(t, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Dockerfile"}, files.names(t)); diff != "" {
		t.Error(diff)
	}
	img, err := image.New(s.store, layer.New(s.store)).Find(t.Context(), "attested")
	if err != nil || img.Root.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("%+v, %v", img, err)
	}
}

// TestDigestOfEngine: an image that the engine keeps for itself has its ID for a digest, which finds it without a name; a pushed one has that
// of its index.
func TestDigestOfEngine(t *testing.T) {
	t.Parallel()
	s, r := start(t), registrytest.New(t)
	for name, attrs := range map[string]map[string]string{"kept": {}, "pushed": {"name": r.Name("a:1"), "push": "true"}} {
		o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
		o.FrontendAttrs["attest:provenance"] = "mode=min,inline-only=true"
		o.Exports = []client.ExportEntry{{Type: "moby", Attrs: attrs}}
		_, res, err := s.solve(t, nil, o)
		if err != nil {
			t.Fatal(err)
		}
		digest := res.ExporterResponse["containerimage.digest"]
		img, err := image.New(s.store, layer.New(s.store)).Find(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"kept": img.ID.String(), "pushed": img.Root.Digest.String()}[name]
		if digest != want || (name == "pushed") != (img.Root.MediaType == ocispec.MediaTypeImageIndex) {
			t.Errorf("%s: %s, want %s: %+v", name, digest, want, img.Root)
		}
	}
}

// TestEntitlements: a client cannot allow its steps what the server does not grant.
func TestEntitlements(t *testing.T) {
	t.Parallel()
	s := start(t)
	for allowed, want := range map[string]string{"network.host": "", "security.insecure": "entitlement security.insecure is not allowed"} {
		o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\n"}))
		o.AllowedEntitlements = []string{allowed}
		_, _, err := s.solve(t, nil, o)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", allowed, err)
		}
	}
}

// listed are the references of the builds in the history.
func (s *server) listed(t *testing.T, req *controlapi.BuildHistoryRequest) (refs []string) {
	t.Helper()
	stream, err := s.client.ControlClient().ListenBuildHistory(t.Context(), req)
	for err == nil {
		var e *controlapi.BuildHistoryEvent
		if e, err = stream.Recv(); err == nil {
			refs = append(refs, e.Record.Ref)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return refs
}

// watched are the steps of a build, as its progress has them.
func (s *server) watched(t *testing.T, ref string) map[string]string {
	t.Helper()
	stream, err := s.client.ControlClient().Status(t.Context(), &controlapi.StatusRequest{Ref: ref})
	steps := map[string]string{}
	for err == nil {
		var st *controlapi.StatusResponse
		if st, err = stream.Recv(); err == nil {
			for _, v := range st.Vertexes {
				steps[v.Name] = v.Error
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return steps
}

// TestHistoryOfOtherProcesses: the progress of a build that another process recorded is that of the history.
func TestHistoryOfOtherProcesses(t *testing.T) {
	t.Parallel()
	s := start(t)
	rec, err := recorder.Start(t.Context(), s.store, recorder.Options{Spec: &buildspec.Spec{}, Ref: "elsewhere", Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	rec.Events(&solver.Status{Vertexes: []*client.Vertex{{Digest: digest.FromString("a"), Name: "a step", Started: &now, Completed: &now}}})
	if err := rec.End("", nil); err != nil {
		t.Fatal(err)
	}
	if steps := s.watched(t, "elsewhere"); len(steps) != 1 {
		t.Errorf("%v", steps)
	}
}

func TestUsageAndPrune(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "12345"})
	o := options(t, dir)
	o.SharedKey = "key"
	if _, _, err := s.solve(t, nil, o); err != nil {
		t.Fatal(err)
	}
	kinds := func(filter ...string) map[client.UsageRecordType]int {
		t.Helper()
		list, err := s.client.DiskUsage(t.Context(), client.WithFilter(filter))
		if err != nil {
			t.Fatal(err)
		}
		n := map[client.UsageRecordType]int{}
		for _, u := range list {
			n[u.RecordType]++
		}
		return n
	}
	both := map[client.UsageRecordType]int{client.UsageRecordTypeRegular: 1, client.UsageRecordTypeCacheMount: 1}
	if diff := cmp.Diff(both, kinds()); diff != "" {
		t.Error(diff)
	}
	if got := kinds("type==exec.cachemount"); got[client.UsageRecordTypeRegular] != 0 || len(got) != 1 {
		t.Errorf("filtered: %v", got)
	}
	removed := make(chan client.UsageInfo, 10)
	for _, test := range []struct {
		filter string
		left   map[client.UsageRecordType]int
	}{{"type==frontend", both}, {"type==exec.cachemount", map[client.UsageRecordType]int{client.UsageRecordTypeRegular: 1}}} {
		err := s.client.Prune(t.Context(), removed, client.PruneAll, client.WithFilter([]string{test.filter}))
		if diff := cmp.Diff(test.left, kinds()); err != nil || diff != "" {
			t.Errorf("prune with %s: %v\n%s", test.filter, err, diff)
		}
	}
	if err := s.client.Prune(t.Context(), removed, client.PruneAll, client.WithFilter([]string{""})); err != nil {
		t.Fatal(err)
	}
	if len(removed) < 2 || len(kinds()) != 0 {
		t.Errorf("removed %d, left %v", len(removed), kinds())
	}
}

// TestBuilt: others learn of images that builds put into the store, and not of files that clients get.
func TestBuilt(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
	for _, e := range []client.ExportEntry{
		{Type: client.ExporterLocal, OutputDir: t.TempDir()}, {Type: client.ExporterImage, Attrs: map[string]string{"name": "h.test/a:1"}},
	} {
		o := options(t, dir)
		o.Exports = []client.ExportEntry{e}
		if _, _, err := s.solve(t, nil, o); err != nil {
			t.Fatal(err)
		}
	}
	if n, name := len(s.built), <-s.built; n != 1 || name != "h.test/a:1" {
		t.Errorf("%d images, the first %q", n, name)
	}
}
