package engineapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apibuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// dockerfile builds a Dockerfile in a context of one file f, and returns the shown text.
func (r *rig) dockerfile(dockerfile string, o client.ImageBuildOptions) (string, error) {
	r.t.Helper()
	got, err := r.ImageBuild(r.t.Context(), bytes.NewReader(archive(r.t, "Dockerfile", dockerfile, "f", "content")), o)
	if err != nil {
		return "", err
	}
	list := r.messages(got.Body)
	var built apibuild.Result
	for _, m := range list {
		if m.Aux != nil {
			if err := json.Unmarshal(*m.Aux, &built); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return text(list) + built.ID, nil
}

func TestBuild(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	value := "v"
	o := client.ImageBuildOptions{Tags: []string{"app", "h.test/app:2"}, BuildArgs: map[string]*string{"A": &value, "B": nil}, Labels: map[string]string{"k": "w"}, Remove: true}
	got, err := r.dockerfile("FROM scratch AS one\nCOPY f /\nFROM scratch\nARG A=none\nCOPY --from=one f g\nCOPY f /h\nLABEL a=$A\n", o)
	if err != nil {
		t.Fatal(err)
	}
	img, err := r.ImageInspect(t.Context(), "h.test/app:2")
	if err != nil {
		t.Fatal(err)
	}
	id := img.ID
	for _, want := range []string{
		"Step 1/3 : COPY f /", "Step 3/3 : COPY ", "\nSuccessfully built " + id[7:19] + "\nSuccessfully tagged app:latest\nSuccessfully tagged h.test/app:2\n" + id,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if diff := cmp.Diff(map[string]string{"a": "v", "k": "w"}, img.Config.Labels); diff != "" || len(img.RootFS.Layers) != 2 {
		t.Errorf("%+v\n%s", img, diff)
	}
	o.SuppressOutput = true
	if got, err = r.dockerfile("FROM scratch AS one\nCOPY f /\nFROM scratch\nARG A=none\nCOPY --from=one f g\nCOPY f /h\nLABEL a=$A\n", o); err != nil || got != id+"\n" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err = r.dockerfile("FROM scratch\nCOPY f /\n", client.ImageBuildOptions{}); err != nil || !strings.Contains(got, "\n ---> Using cache\n") {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFailedBuild: what is wrong before the first step has a status; later it is in the answer.
func TestFailedBuild(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if got, err := r.dockerfile("FROM scratch\nDANCE\n", client.ImageBuildOptions{}); !strings.Contains(said(err), "Dockerfile:2: failed to solve: dockerfile parse error on line 2: unknown instruction: DANCE") {
		t.Errorf("%q, %v", got, err)
	}
	for _, quiet := range []bool{false, true} {
		got, err := r.dockerfile("FROM scratch\nCOPY f /\nCOPY none /\n", client.ImageBuildOptions{SuppressOutput: quiet, Tags: []string{"never"}})
		if err != nil || !strings.Contains(got, "Step 1/2 : COPY f /\n") || !strings.Contains(got, `ERROR Dockerfile:3: failed to solve: `) {
			t.Errorf("quiet %t: %q, %v", quiet, got, err)
		}
	}
	if got := r.names(client.ImageListOptions{}); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if _, err := r.dockerfile("FROM scratch\n", client.ImageBuildOptions{Dockerfile: "Other"}); !strings.Contains(said(err), "Other") {
		t.Errorf("%v", err)
	}
	if got, err := r.ImageBuild(t.Context(), nil, client.ImageBuildOptions{RemoteContext: "/etc"}); !strings.Contains(said(err), `remote context "/etc" is neither a URL nor a git repository`) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestBuildCredentials: base images are pulled with the credentials of the request for their registries.
func TestBuildCredentials(t *testing.T) {
	t.Parallel()
	r, reg := newRig(t), registrytest.New(t)
	reg.PutImage("base", "1", "amd64", nil, registrytest.Layer(t, "b", []byte("x")))
	reg.Misbehave(registrytest.Password("user", "secret"))
	const other = `{"h.test":{"username":"user","password":"secret"}}`
	header := func(text string) []string {
		return []string{"X-Registry-Config", base64.URLEncoding.EncodeToString([]byte(text))}
	}
	body := archive(t, "Dockerfile", "FROM "+reg.Name("base:1")+"\nCOPY Dockerfile /\n")
	if resp, got := r.do(http.MethodPost, "/build", bytes.NewReader(body), header(other)...); resp.StatusCode == http.StatusOK && !strings.Contains(got, "errorDetail") || strings.Contains(got, "secret") {
		t.Errorf("%s, %s", resp.Status, got)
	}
	if resp, got := r.do(http.MethodPost, "/build", bytes.NewReader(body), header(strings.Replace(other, "h.test", reg.Addr, 1))...); resp.StatusCode != http.StatusOK || !strings.Contains(got, "Successfully built ") {
		t.Errorf("%s, %s", resp.Status, got)
	}
}

func TestBuildOptions(t *testing.T) {
	t.Parallel()
	memory, quota, swap := int64(1<<20), int64(5), int64(-1)
	want := buildspec.Spec{
		Target: "t", CgroupParent: "g", Tags: []string{"a", "b:1"}, NoCache: true, Pull: true, BuildArgs: map[string]string{"X": "y"}, Labels: map[string]string{"k": "v"},
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}, Network: "none", ShmSize: 4096, Ulimits: []string{"nofile=1:2"},
		Limits:    buildspec.Limits{Memory: &memory, MemorySwap: &swap, CPUQuota: &quota, CPUs: "0-1", MemoryNodes: "0"},
		CacheFrom: []buildspec.Cache{{Type: buildspec.CacheRegistry, Ref: "docker.io/library/c:1"}}, Outputs: []buildspec.Output{{Type: buildspec.OutputImage}},
	}
	q := url.Values{
		"target": {"t"}, "cgroupparent": {"g"}, "t": {"a", "b:1"}, "nocache": {"1"}, "pull": {"true"}, "buildargs": {`{"X":"y","Z":null}`}, "labels": {`{"k":"v"}`},
		"platform": {"linux/arm64"}, "networkmode": {"none"}, "shmsize": {"4096"}, "ulimits": {`[{"Name":"nofile","Soft":1,"Hard":2}]`},
		"memory": {"1048576"}, "memswap": {"-1"}, "cpuquota": {"5"}, "cpushares": {"0"}, "cpusetcpus": {"0-1"}, "cpusetmems": {"0"}, "cachefrom": {`["c:1"]`},
		"rm": {"1"}, "forcerm": {"0"}, "version": {"1"}, "isolation": {"default"}, "extrahosts": {"h:127.0.0.1"},
	}
	got, err := buildOptions(request(q))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Spec, cmpopts.IgnoreFields(buildspec.Spec{}, "Hosts"), cmpopts.EquateEmpty()); diff != "" || len(got.Hosts) != 1 {
		t.Error(diff)
	}
	for _, bad := range []string{
		"squash=1", "version=2", "version=3", "securityopt=x", "isolation=hyperv", `outputs=[{"Type":"local"}]`, "t=Upper", "buildargs=[", "labels=x", "cachefrom={}", "cachefrom=[\"type=local,src=/etc\"]",
		"platform=a/b/c/d", "networkmode=bridge2", "extrahosts=x", "shmsize=1k", "memory=x", `ulimits=[{"Name":"dance","Soft":1,"Hard":2}]`, "ulimits=1",
	} {
		values, err := url.ParseQuery(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := buildOptions(request(values)); err == nil || statusOf(err) != http.StatusBadRequest {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func request(q url.Values) *http.Request { return &http.Request{URL: &url.URL{RawQuery: q.Encode()}} }

// TestCancelBuild: a build ends with an error when another connection says so.
func TestCancelBuild(t *testing.T) {
	t.Parallel()
	r, reg := newRig(t), registrytest.New(t)
	reg.PutImage("base", "1", "amd64", nil)
	held, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	reg.Misbehave(func(registrytest.Request) registrytest.Fault {
		return func(_ http.ResponseWriter, req *http.Request, _ http.Handler) {
			select {
			case held <- struct{}{}:
			default:
			}
			select {
			case <-release:
			case <-req.Context().Done():
			}
		}
	})
	done := make(chan error, 1)
	go func() {
		_, err := r.dockerfile("FROM "+reg.Name("base:1")+"\nCOPY f /\n", client.ImageBuildOptions{BuildID: "mine"})
		done <- err
	}()
	<-held
	if _, err := r.BuildCancel(t.Context(), "mine", client.BuildCancelOptions{}); err != nil {
		t.Error(err)
	}
	if err := <-done; !strings.Contains(said(err), errCanceled.Error()) {
		t.Errorf("%v", err)
	}
	if resp, _ := r.do(http.MethodPost, "/build/cancel", nil); resp.StatusCode != http.StatusBadRequest {
		t.Error(resp.Status)
	}
	if len(r.server.builds.named) != 0 {
		t.Error("an ended build can be canceled")
	}
}

// TestSameBuildID: the end of a build leaves a later one with the same ID, which can still be canceled.
func TestSameBuildID(t *testing.T) {
	t.Parallel()
	s := New(Options{Root: t.TempDir()})
	_, endFirst, err := s.builds.start(t.Context(), "client", "id")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end, err := s.builds.start(t.Context(), "client", "id")
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	endFirst()
	if err := s.cancelBuild(nil, request(url.Values{"id": {"id"}})); err != nil || !errors.Is(context.Cause(ctx), errCanceled) {
		t.Errorf("%v, %v", err, context.Cause(ctx))
	}
}

// TestManyBuilds: a client runs a number of builds at once, and another one can begin when one has ended. It does not shut out other clients.
func TestManyBuilds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var end func()
	for range maxBuilds + ownBuilds {
		var err error
		if _, end, err = r.server.builds.start(t.Context(), "greedy", ""); err != nil {
			t.Fatal(err)
		}
	}
	body := archive(t, "Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	build := func(client string, want int) {
		t.Helper()
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/build", bytes.NewReader(body))
		req.RemoteAddr = client
		got := httptest.NewRecorder()
		r.server.ServeHTTP(got, req)
		if got.Code != want {
			t.Errorf("%s: %d, %s", client, got.Code, got.Body)
		}
	}
	build("greedy", http.StatusServiceUnavailable)
	build("modest:80", http.StatusOK)
	end()
	build("greedy", http.StatusOK)
}

func TestPruneBuilds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.dockerfile("FROM scratch\nCOPY f /\n", client.ImageBuildOptions{Tags: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	got, err := r.BuildCachePrune(t.Context(), client.BuildCachePruneOptions{All: true})
	if err != nil || len(got.Report.CachesDeleted) == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, query := range []string{"max-used-space=1", "min-free-space=2", "keep-storage=x", `filters={"id":["x"]}`} {
		if resp, body := r.do(http.MethodPost, "/build/prune?"+query, nil); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s, %s", query, resp.Status, body)
		}
	}
	for query, want := range map[string]string{"": "", "keep-storage=5": "5", "reserved-space=7&keep-storage=5": "7"} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if kept, err := keptSpace(request(values)); kept != want || err != nil {
			t.Errorf("%s: %q, %v", query, kept, err)
		}
	}
}
