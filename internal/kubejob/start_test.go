package kubejob

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// apiServer is an API server whose pods have states by the isolation in their Jobs.
type apiServer struct {
	t *testing.T
	// pods are the states that the pods of an isolation have, one for each Job; a last one remains. "refused" is not admitted.
	pods map[string][]string
	// events are those of pods, as JSON.
	events string

	mu             sync.Mutex
	tried, deleted []string          // isolations
	jobs           map[string]string // isolations by the names of Jobs
}

func (s *apiServer) start(t *testing.T, o Options) (*Job, error) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.Image = "mica"
	c := &cluster{http: server.Client(), base: base, namespace: "ns", slow: time.Millisecond}
	return c.start(t.Context(), &o, amd64)
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	isolation := ""
	for _, name := range isolations {
		if strings.Contains(string(raw), fmt.Sprintf("%q", name)) {
			isolation = name
		}
	}
	_, name, _ := strings.Cut(r.URL.Path+r.URL.Query().Get("labelSelector"), "job-name=")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Method == http.MethodDelete:
		s.deleted = append(s.deleted, s.of(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]))
	case r.URL.Query().Get("dryRun") != "":
		if s.pods[isolation][0] == "refused" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"violates PodSecurity"}`)
		}
	case r.Method == http.MethodPost:
		s.tried = append(s.tried, isolation)
		var job struct{ Metadata struct{ Name string } }
		_ = json.Unmarshal(raw, &job)
		if s.jobs == nil {
			s.jobs = map[string]string{}
		}
		s.jobs[job.Metadata.Name] = isolation
	case strings.HasSuffix(r.URL.Path, "/events"):
		_, _ = io.WriteString(w, `{"items":`+s.events+`}`)
	default:
		list := s.pods[s.of(name)]
		state := list[0]
		if len(list) > 1 {
			s.pods[s.of(name)] = list[1:]
		}
		_, _ = fmt.Fprintf(w, `{"type":"ADDED","object":{"metadata":{"name":"%s-x"},"status":%s}}`, name, state)
		s.hold(r.Context(), w)
	}
}

// hold leaves a watch open.
func (s *apiServer) hold(ctx context.Context, w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush()
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
}

// of returns the isolation of a Job.
func (s *apiServer) of(job string) string {
	isolation, ok := s.jobs[job]
	if !ok {
		s.t.Errorf("no Job %q", job)
		return isolations[0]
	}
	return isolation
}

const (
	serves   = `{"containerStatuses":[{"name":"mica","ready":true}]}`
	created  = `{"containerStatuses":[{"name":"mica","state":{"waiting":{"reason":"ContainerCreating"}}}]}`
	cannot   = `{"containerStatuses":[{"name":"mica","state":{"waiting":{"reason":"RunContainerError","message":"no seccomp"}}}]}`
	exits    = `{"containerStatuses":[{"name":"mica","state":{"terminated":{"reason":"Error","exitCode":1}}}]}`
	noPull   = `{"containerStatuses":[{"name":"mica","state":{"waiting":{"reason":"ImagePullBackOff","message":"gone"}}}]}`
	evicted  = `{"phase":"Failed","reason":"Evicted","message":"low on memory"}`
	unfit    = `{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."}]}`
	full     = `{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector."}]}`
	noUserns = `[{"reason":"FailedCreatePodSandBox","message":"the handler \"runc\" does not support user namespaces"}]`
	noCNI    = `[{"reason":"FailedCreatePodSandBox","message":"plugin bridge failed"}]`
)

// TestStart: the Job has the first isolation that the cluster admits and can start, and no other Job is left.
func TestStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pods   map[string][]string
		events string
		o      Options
		want   string // the isolation, or a part of the error after "error "
		tried  []string
	}{
		"first":          {map[string][]string{"fakeroot": {serves}}, "", Options{}, "fakeroot", []string{"fakeroot"}},
		"refused":        {map[string][]string{"fakeroot": {"refused"}, "oci": {serves}}, "", Options{}, "oci", []string{"oci"}},
		"cannot start":   {map[string][]string{"fakeroot": {cannot}, "oci": {exits}, "chroot": {serves}}, "", Options{}, "chroot", isolations},
		"no userns":      {map[string][]string{"fakeroot": {created}, "oci": {created}, "chroot": {serves}}, noUserns, Options{}, "chroot", isolations},
		"nothing":        {map[string][]string{"fakeroot": {"refused"}, "oci": {exits}, "chroot": {cannot}}, "", Options{}, "error -x: RunContainerError: no seccomp", []string{"oci", "chroot"}},
		"chosen":         {map[string][]string{"oci": {cannot}}, "", Options{Isolation: "oci"}, "error isolation oci", []string{"oci"}},
		"no image":       {map[string][]string{"fakeroot": {noPull}}, "", Options{}, "error ImagePullBackOff: gone", []string{"fakeroot"}},
		"evicted":        {map[string][]string{"fakeroot": {evicted, serves}}, "", Options{}, "fakeroot", []string{"fakeroot", "fakeroot"}},
		"always evicted": {map[string][]string{"fakeroot": {evicted}}, "", Options{}, "error Evicted low on memory", []string{"fakeroot", "fakeroot", "fakeroot"}},
		"no node":        {map[string][]string{"fakeroot": {unfit}}, "[]", Options{}, "error set timeout in --on", []string{"fakeroot"}},
		"no network":     {map[string][]string{"fakeroot": {created}}, noCNI, Options{Timeout: 500 * time.Millisecond}, "error plugin bridge failed", []string{"fakeroot"}},
		"patient":        {map[string][]string{"fakeroot": {unfit}}, "[]", Options{Timeout: 500 * time.Millisecond}, "error does not run after 500ms: Unschedulable", []string{"fakeroot"}},
		"unreadable":     {map[string][]string{"fakeroot": {created}}, "no", Options{Timeout: 500 * time.Millisecond}, "error ContainerCreating", []string{"fakeroot"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &apiServer{t: t, pods: c.pods, events: c.events}
			j, err := s.start(t, c.o)
			want, isError := strings.CutPrefix(c.want, "error ")
			switch {
			case isError != (err != nil) || isError && !strings.Contains(err.Error(), want):
				t.Errorf("%v, want %s", err, c.want)
			case !isError && (j.Isolation != want || j.Close(t.Context()) != nil):
				t.Errorf("%s, want %s", j.Isolation, want)
			}
			if !slices.Equal(s.tried, c.tried) || !slices.Equal(s.deleted, c.tried) {
				t.Errorf("Jobs of %q, deleted of %q, want %q", s.tried, s.deleted, c.tried)
			}
		})
	}
}

// TestFitsNoNode: nodes that are full, or that an autoscaler adds, are waited for.
func TestFitsNoNode(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]bool{unfit: true, full: false, created: false} {
		var p pod
		if err := json.Unmarshal([]byte(`{"status":`+status+`}`), &p); err != nil {
			t.Fatal(err)
		}
		_, waits, err := p.state()
		if err != nil || fitsNoNode(waits) != want {
			t.Errorf("%s: %v, %v", waits, fitsNoNode(waits), err)
		}
	}
}

// TestCheck: what no Job can be made of is known before there is a cluster.
func TestCheck(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"needs an image":    {},
		"invalid isolation": {Image: "x", Isolation: "none"},
		"template: ":        {Image: "x", Template: []byte("{")},
	} {
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := (&Options{Image: "x"}).Check(); err != nil {
		t.Error(err)
	}
}
