package engineapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"
)

func TestPing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, path := range []string{"/_ping", "/v1.40/_ping", "/v1.56/_ping"} {
			resp, body := r.do(method, path, nil)
			got := map[string]string{}
			for _, h := range []string{"Api-Version", "Builder-Version", "Ostype", "Docker-Experimental", "Swarm"} {
				got[h] = resp.Header.Get(h)
			}
			want := map[string]string{"Api-Version": MaxVersion, "Builder-Version": "1", "Ostype": "linux", "Docker-Experimental": "false", "Swarm": "inactive"}
			if diff := cmp.Diff(want, got); diff != "" || resp.StatusCode != http.StatusOK || method == http.MethodGet && body != "OK" {
				t.Errorf("%s %s: %s, %q\n%s", method, path, resp.Status, body, diff)
			}
		}
	}
}

// TestBuilderVersion: docker uses BuildKit where it is served.
func TestBuilderVersion(t *testing.T) {
	t.Parallel()
	for buildKit, want := range map[bool]string{false: "1", true: "2"} {
		w := httptest.NewRecorder()
		New(Options{BuildKit: buildKit}).ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/_ping", nil))
		if got := w.Header().Get("Builder-Version"); got != want {
			t.Errorf("%t: builder %s, want %s", buildKit, got, want)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for path, c := range map[string]struct {
		status int
		says   string
	}{
		"/version":              {200, ""},
		"/v1.40/version":        {200, ""},
		"/v1.56/version":        {200, ""},
		"/v1.39/version":        {400, "client version 1.39 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version"},
		"/v1.57/version":        {400, "client version 1.57 is too new. Maximum supported API version is 1.56"},
		"/v2/version":           {400, `invalid API version: \"2\"`},
		"/v1.4.0/version":       {400, `invalid API version: \"1.4.0\"`},
		"/v1.999999999/version": {400, `invalid API version: \"1.999999999\"`},
		"/v1.50/dance":          {404, "page not found"},
		"/dance":                {404, "page not found"},
		"/":                     {404, "page not found"},
		"/images/a/b/dance":     {404, "page not found"},
	} {
		resp, body := r.do(http.MethodGet, path, nil)
		if resp.StatusCode != c.status || c.says != "" && body != `{"message":"`+c.says+"\"}\n" {
			t.Errorf("%s: %s, %s", path, resp.Status, body)
		}
	}
	if resp, body := r.do(http.MethodPut, "/version", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("PUT: %s, %s", resp.Status, body)
	}
	v, err := r.ServerVersion(t.Context(), client.ServerVersionOptions{})
	if err != nil || v.APIVersion != MaxVersion || v.MinAPIVersion != MinVersion || v.Version == "" || len(v.Components) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("x", "a")
	got, err := r.Info(t.Context(), client.InfoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i := got.Info
	if i.Images != 1 || i.DockerRootDir != r.server.o.Root || i.OSType != "linux" || i.NCPU < 1 || i.MemTotal < 1<<20 || i.KernelVersion == "" || i.Architecture == "" {
		t.Errorf("%+v", i)
	}
}

// TestAbsent: what mica does not have is an empty list, a name that means nothing, or a refusal.
func TestAbsent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for request, c := range map[string]struct {
		status int
		says   string
	}{
		"GET /v1.50/containers/json":        {200, "[]\n"},
		"OPTIONS /images/json":              {200, ""},
		"GET /plugins":                      {200, "[]\n"},
		"GET /volumes":                      {200, `{"Volumes":[],"Warnings":null}` + "\n"},
		"GET /containers/a/json":            {404, `{"message":"No such container: a"}` + "\n"},
		"GET /containers/h.test/a/b:1/json": {404, `{"message":"No such container: h.test/a/b:1"}` + "\n"},
		"GET /volumes/h.test/a/b:1":         {404, `{"message":"get h.test/a/b:1: no such volume"}` + "\n"},
		"GET /containers/a/logs":            {404, `{"message":"No such container: a"}` + "\n"},
		"GET /containers/a/attach/ws":       {404, ""},
		"POST /networks/create":             {400, ""},
		"GET /networks/a":                   {404, `{"message":"network a not found"}` + "\n"},
		"GET /volumes/a":                    {404, `{"message":"get a: no such volume"}` + "\n"},
		"GET /plugins/a/json":               {404, `{"message":"plugin \"a\" not found"}` + "\n"},
		"POST /networks/prune":              {200, `{"NetworksDeleted":[]}` + "\n"},
		"POST /containers/create":           {400, `{"message":"config cannot be empty in order to create a container"}` + "\n"},
		"POST /v1.50/exec/a/start":          {404, `{"message":"No such exec instance: a"}` + "\n"},
		"POST /containers/a/checkpoints":    {501, ""},
		"GET /services/a":                   {503, ""},
		"GET /swarm":                        {503, ""},
		"GET /images/search?term=a":         {501, ""},
		"DELETE /images/a?platforms=b":      {400, ""},
	} {
		method, path, _ := strings.Cut(request, " ")
		resp, body := r.do(method, path, nil)
		if resp.StatusCode != c.status || c.says != "" && body != c.says || method != http.MethodOptions && resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s, %q", request, resp.Status, body)
		}
	}
}
