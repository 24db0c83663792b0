package engineapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/quota"
)

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestContextLimit: a context without an end is refused, and nothing of it stays.
func TestContextLimit(t *testing.T) {
	t.Setenv(quota.Setting, "1m")
	r := newRig(t)
	got, body := r.do(http.MethodPost, "/build", endless{})
	if got.StatusCode < 400 || !strings.Contains(body, "read build context: it has more than 1MiB, the limit of a context") {
		t.Errorf("%s: %s", got.Status, body)
	}
	left, err := filepath.Glob(filepath.Join(r.server.o.Root, "tmp", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// FuzzRequest: a request of any form gets an answer, with a status that HTTP has.
func FuzzRequest(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET", "/v1.47/images/json?filters={\"dangling\":[\"true\"]}", ""}, {"GET", "/v9.9/info", ""}, {"POST", "/v1.40/images/a/b/c:d/tag?repo=x&tag=y", ""},
		{"DELETE", "/images/a@sha256:0", ""}, {"POST", "/build?buildargs={}&ulimits=[]&memory=1&remote=x", "x"}, {"POST", "/images/create?fromSrc=-&changes=CMD%20x", "x"},
		{"POST", "/images/load?platform={}", "x"}, {"POST", "/build/prune?filters=[]", ""}, {"GET", "/events?since=1&until=2&filters={\"type\":{\"image\":true}}", ""},
		{"POST", "/auth", "{}"}, {"GET", "/images/get?names=a&names=b", ""}, {"GET", "/system/df?type=image", ""}, {"POST", "/containers/create?name=x", "{\"Image\":\"a\"}"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	dir, err := os.MkdirTemp("", "mica-fuzz")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := New(Options{Root: filepath.Join(dir, "store")})
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || reaches(u) {
			t.Skip()
		}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://mica/", strings.NewReader(body))
		if err != nil {
			t.Skip()
		}
		req.URL.Path, req.URL.RawPath, req.URL.RawQuery = u.Path, u.RawPath, u.RawQuery
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		resp := w.Result()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode < 100 || resp.StatusCode > 599 {
			t.Errorf("%s %s: %s, %v", method, target, resp.Status, err)
		}
	})
}

// reaches reports whether a request may ask another host, or waits for what is to come.
func reaches(u *url.URL) bool {
	path, q := u.Path, u.Query()
	return strings.Contains(path, "/auth") || strings.Contains(path, "/distribution/") || strings.HasSuffix(path, "/push") || strings.Contains(path, "/events") ||
		strings.HasSuffix(path, "/images/create") && q.Get("fromSrc") != "-" || q.Get("remote") != ""
}
