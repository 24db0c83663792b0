package sources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/version"
)

// pinOf returns the pin of a source in another build.
func pinOf(t *testing.T, f *Fetcher, url string, attrs map[string]string) string {
	t.Helper()
	src, err := next(f).Open(url, attrs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	pin, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return pin
}

// A connection that breaks and a server's fault are tried again, other responses are not.
func TestTries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults int32
		fault  http.HandlerFunc
		asked  int32
		fails  string
	}{
		"no fault":           {0, nil, 1, ""},
		"two broken":         {2, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 3, ""},
		"three broken":       {3, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 3, "EOF"},
		"two short":          {2, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "9") }, 3, ""},
		"a server's fault":   {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, 2, ""},
		"too many faults":    {9, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, 3, "invalid response status 502"},
		"too many requests":  {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, 1, "invalid response status 429"},
		"a redirect to none": {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, 1, "invalid response status 304"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) <= c.faults {
					c.fault(w, r)
					return
				}
				fmt.Fprint(w, "content")
			})
			f := newFetcher(t)
			f.Client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			_, dir, err := fetch(t, f, url+"/x", nil)
			if asked.Load() != c.asked || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%d requests, %v", asked.Load(), err)
			}
			if err != nil {
				return
			}
			if text, err := os.ReadFile(filepath.Join(dir, "x")); err != nil || string(text) != "content" {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

// What a request says of itself: the headers that a front end may set, and a secret.
func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	host, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		attrs, secrets map[string]string
		want           map[string]string
	}{
		"none":          {nil, nil, map[string]string{"User-Agent": version.BuildUserAgent(), "Authorization": ""}},
		"allowed":       {map[string]string{pb.AttrHTTPHeaderPrefix + "accept": "a/b", pb.AttrHTTPHeaderPrefix + "user-agent": "me"}, nil, map[string]string{"Accept": "a/b", "User-Agent": "me"}},
		"forbidden":     {map[string]string{pb.AttrHTTPHeaderPrefix + "cookie": "x", pb.AttrHTTPHeaderPrefix + "authorization": "y"}, nil, map[string]string{"Cookie": "", "Authorization": ""}},
		"named":         {map[string]string{pb.AttrHTTPAuthHeaderSecret: "s"}, map[string]string{"s": "basic x\n", "HTTP_AUTH_TOKEN_" + host.Hostname(): "y"}, map[string]string{"Authorization": "basic x"}},
		"host's header": {nil, map[string]string{"HTTP_AUTH_HEADER_" + host.Hostname(): "basic h"}, map[string]string{"Authorization": "basic h"}},
		"host's token":  {nil, map[string]string{"HTTP_AUTH_TOKEN_" + host.Hostname(): "t"}, map[string]string{"Authorization": "Bearer t"}},
		"another's":     {nil, map[string]string{"HTTP_AUTH_TOKEN_example.com": "t"}, map[string]string{"Authorization": ""}},
	} {
		f := newFetcher(t)
		f.Secret = func(_ context.Context, id string) ([]byte, error) {
			if v, ok := c.secrets[id]; ok {
				return []byte(v), nil
			}
			return nil, fs.ErrNotExist
		}
		if _, _, err := fetch(t, f, address+"/x", c.attrs); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		header := <-got
		for k, v := range c.want {
			if header.Get(k) != v {
				t.Errorf("%s: %s is %q, want %q", name, k, header.Get(k), v)
			}
		}
	}
	f := newFetcher(t)
	f.Secret = func(context.Context, string) ([]byte, error) { return nil, errors.New("locked") }
	if _, _, err := fetch(t, f, address+"/x", nil); err == nil || !strings.HasSuffix(err.Error(), "locked") {
		t.Errorf("a secret that cannot be read: %v", err)
	}
}

// Everything that the file will have is part of the pin: its content, name, time, mode and owner.
func TestPin(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if at := r.URL.Query().Get("at"); at != "" {
			w.Header().Set("Last-Modified", at)
		}
		fmt.Fprint(w, r.URL.Query().Get("text"))
	})
	seen := map[string]string{}
	for _, c := range []struct {
		path  string
		attrs map[string]string
	}{
		{"/a?text=x", nil},
		{"/a?text=y", nil},
		{"/b?text=x", nil},
		{"/a?text=x&at=Sun,+03+Feb+2019+04:05:06+GMT", nil},
		{"/a?text=x", map[string]string{pb.AttrHTTPPerm: "0644"}},
		{"/a?text=x", map[string]string{pb.AttrHTTPUID: "7"}},
		{"/a?text=x", map[string]string{pb.AttrHTTPGID: "7"}},
	} {
		f := newFetcher(t)
		pin, what := pinOf(t, f, url+c.path, c.attrs), fmt.Sprint(c.path, c.attrs)
		if other, ok := seen[pin]; ok {
			t.Errorf("%s has the pin of %s", what, other)
		}
		seen[pin] = what
		if again := pinOf(t, f, url+c.path, c.attrs); again != pin {
			t.Errorf("%s has two pins", what)
		}
	}
	f := newFetcher(t)
	if pinOf(t, f, url+"/a?text=x", map[string]string{pb.AttrHTTPFilename: "a"}) != pinOf(t, f, url+"/dir/a?text=x", nil) {
		t.Error("the URL is part of the pin")
	}
}

// A server that does not compare ETags with HEAD, or at all, costs a download, and no wrong content.
func TestValidators(t *testing.T) {
	t.Parallel()
	const tag = `"one"`
	for name, c := range map[string]struct {
		second http.HandlerFunc // the responses to the second Pin's requests
		bodies int32
	}{
		"not modified": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, 1},
		"of another": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"two"`)
			if r.Method == http.MethodHead || r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
			}
		}, 2},
		"HEAD is forbidden": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(map[bool]int{true: http.StatusMethodNotAllowed, false: http.StatusNotModified}[r.Method == http.MethodHead])
		}, 1},
		"the same tag": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", tag) }, 1},
		"no tag":       {func(http.ResponseWriter, *http.Request) {}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var second atomic.Bool
			var bodies atomic.Int32
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("If-None-Match") == "" {
					bodies.Add(1)
				}
				if second.Load() {
					c.second(w, r)
					return
				}
				w.Header().Set("ETag", tag)
			})
			f := newFetcher(t)
			pin := pinOf(t, f, url+"/x", nil)
			second.Store(true)
			if again := pinOf(t, f, url+"/x", nil); again != pin || bodies.Load() != c.bodies {
				t.Errorf("%d downloads, the same content: %t", bodies.Load(), again == pin)
			}
		})
	}
}

// A record that is not whole is not used.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	var bodies atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		bodies.Add(1)
	})
	f := newFetcher(t)
	pin := pinOf(t, f, url+"/x", nil)
	records, err := filepath.Glob(f.Store.Path("cache", "http", "*"))
	if err != nil || len(records) != 1 {
		t.Fatalf("%q, %v", records, err)
	}
	const sum = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for i, text := range []string{
		"", "{", `{"digest":"sha256:x","name":"x","etag":"\"x\""}`, `{"digest":"` + sum + `","name":"../x","etag":"\"x\""}`,
		`{"digest":"` + sum + `","name":"x"}`,
	} {
		if err := os.WriteFile(records[0], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if again := pinOf(t, f, url+"/x", nil); again != pin || bodies.Load() != int32(i)+2 {
			t.Errorf("%q: %d downloads", text, bodies.Load())
		}
	}
	if err := os.RemoveAll(filepath.Dir(records[0])); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Dir(records[0]), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if again := pinOf(t, f, url+"/x", nil); again != pin {
		t.Error("without a place for records, the pin is another")
	}
}

// Content that changes between Pin and Fetch is refused: it is not what was pinned.
func TestChangedContent(t *testing.T) {
	t.Parallel()
	var text atomic.Value
	text.Store("one")
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"same"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, text.Load())
	})
	f := newFetcher(t)
	if _, _, err := fetch(t, f, url+"/x", nil); err != nil {
		t.Fatal(err)
	}
	text.Store("two")
	if _, _, err := fetch(t, f, url+"/x", nil); err == nil || !strings.Contains(err.Error(), "digest mismatch for "+url+"/x") {
		t.Errorf("%v", err)
	}
	left, err := os.ReadDir(f.Store.Path("tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary directories are left: %v, %v", left, err)
	}
}

func TestSafeName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a": "a", "a/b": "b", "a/b/": "b", "": "download", "/": "download", ".": "download", "..": "download", "a/..": "download", "../a": "a",
		"a\x00b": "download", " ": " ", "a\nb": "a\nb", ".hidden": ".hidden", `a\b`: `a\b`,
	} {
		if got := safeName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
