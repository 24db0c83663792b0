package sources

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/store"
)

func newFetcher(t *testing.T) *Fetcher {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return &Fetcher{Store: s}
}

// next is the Fetcher of another build.
func next(f *Fetcher) *Fetcher {
	return &Fetcher{Store: f.Store, Secret: f.Secret, SSH: f.SSH, Client: f.Client, Blob: f.Blob}
}

// fetch gets a source as a build does, and returns its pin and its directory.
func fetch(t *testing.T, f *Fetcher, url string, attrs map[string]string) (pin, dir string, err error) {
	t.Helper()
	src, err := next(f).Open(url, attrs)
	if err != nil {
		return "", "", err
	}
	defer func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}()
	if pin, err = src.Pin(t.Context()); err != nil {
		return "", "", err
	}
	dir = t.TempDir()
	return pin, dir, src.Fetch(t.Context(), dir)
}

func serve(t *testing.T, respond http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(respond)
	t.Cleanup(s.Close)
	return s.URL
}

// TestFile: the name, mode and time that BuildKit gives a download.
func TestFile(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if name := r.URL.Query().Get("name"); name != "" {
			w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
		}
		if r.URL.Path == "/dated" {
			w.Header().Set("Last-Modified", "Sun, 03 Feb 2019 04:05:06 GMT")
		}
		fmt.Fprint(w, "content")
	})
	for _, c := range []struct {
		path  string
		attrs map[string]string
		name  string
		mode  fs.FileMode
		at    time.Time
	}{
		{"/a/file.txt", nil, "file.txt", 0o600, time.Unix(0, 0)},
		{"/", nil, "download", 0o600, time.Unix(0, 0)},
		{"/x?name=given", nil, "given", 0o600, time.Unix(0, 0)},
		{"/x?name=../../etc/passwd", nil, "passwd", 0o600, time.Unix(0, 0)},
		{"/x?name=..", nil, "x", 0o600, time.Unix(0, 0)},
		{"/x", map[string]string{pb.AttrHTTPFilename: "mine", pb.AttrHTTPPerm: "0751"}, "mine", 0o751, time.Unix(0, 0)},
		{"/dated", nil, "dated", 0o600, time.Date(2019, 2, 3, 4, 5, 6, 0, time.UTC)},
	} {
		_, dir, err := fetch(t, newFetcher(t), url+c.path, c.attrs)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		files, err := os.ReadDir(dir)
		if err != nil || len(files) != 1 {
			t.Errorf("%s: %v %v", c.path, files, err)
			continue
		}
		info, err := files[0].Info()
		if err != nil || info.Name() != c.name && c.name != "x" || info.Mode() != c.mode || !info.ModTime().Equal(c.at) {
			t.Errorf("%s is %s %s of %s, want %s %s of %s", c.path, info.Name(), info.Mode(), info.ModTime(), c.name, c.mode, c.at)
		}
	}
}

// TestUnchangedFile is not downloaded twice, and has the same pin; one that has changed has another.
func TestUnchangedFile(t *testing.T) {
	var bodies atomic.Int32
	var tag atomic.Value
	tag.Store(`"one"`)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag.Load().(string))
		if r.Header.Get("If-None-Match") == tag.Load() {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if r.Method == http.MethodGet {
			bodies.Add(1)
		}
		fmt.Fprint(w, tag.Load())
	})
	f := newFetcher(t)
	pin := func() string {
		t.Helper()
		return pinOf(t, f, url+"/x", nil)
	}
	first := pin()
	if again := pin(); again != first || bodies.Load() != 1 {
		t.Errorf("%s, then %s; %d downloads", first, again, bodies.Load())
	}
	tag.Store(`"two"`)
	if other := pin(); other == first || bodies.Load() != 2 {
		t.Errorf("changed, it is still %s; %d downloads", other, bodies.Load())
	}
}

func TestFileThatIsRefused(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/short":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "short")
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
		default:
			fmt.Fprint(w, "content")
		}
	})
	user := strings.Replace(url, "://", "://user:password@", 1)
	for path, c := range map[string]struct {
		attrs map[string]string
		want  string
	}{
		"/short":   {nil, "unexpected EOF"},
		"/broken":  {nil, "invalid response status 500"},
		"/missing": {nil, "invalid response status 404"},
		"/other":   {map[string]string{pb.AttrHTTPChecksum: "sha256:" + strings.Repeat("0", 64)}, "digest mismatch"},
		"/bad":     {map[string]string{pb.AttrHTTPChecksum: "md5:x"}, "checksum"},
		"/perm":    {map[string]string{pb.AttrHTTPPerm: "rwx"}, "perm"},
		"/secret":  {map[string]string{pb.AttrHTTPAuthHeaderSecret: "token"}, "secret token: not found"},
	} {
		_, _, err := fetch(t, newFetcher(t), user+path, c.attrs)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", path, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "password") {
			t.Errorf("%s: the password is in %v", path, err)
		}
	}
}

// TestRightChecksum needs no download to be known by.
func TestRightChecksum(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "content") })
	sum := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("content")))
	_, dir, err := fetch(t, newFetcher(t), url+"/f", map[string]string{pb.AttrHTTPChecksum: sum})
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(data) != "content" {
		t.Errorf("%q %v", data, err)
	}
}

// TestCredentials go to the host that they are for, and to no other.
func TestCredentials(t *testing.T) {
	var leaked atomic.Bool
	elsewhere := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
	})
	elsewhere = strings.Replace(elsewhere, "127.0.0.1", "localhost", 1)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer value" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, elsewhere+"/x", http.StatusFound)
	})
	f := newFetcher(t)
	f.Secret = func(_ context.Context, id string) ([]byte, error) {
		if id == "HTTP_AUTH_TOKEN_127.0.0.1" {
			return []byte("value"), nil
		}
		return nil, fs.ErrNotExist
	}
	if _, _, err := fetch(t, f, url+"/x", nil); err != nil {
		t.Fatal(err)
	}
	if leaked.Load() {
		t.Error("the other host was given the token")
	}
}
