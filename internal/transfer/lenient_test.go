package transfer

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestHeadersThatRegistriesLeaveOut: pull, push and copy need neither length nor digest nor type, nor HEAD.
func TestHeadersThatRegistriesLeaveOut(t *testing.T) {
	manifests := func(method string, f registrytest.Fault) func(registrytest.Request) registrytest.Fault {
		return func(r registrytest.Request) registrytest.Fault {
			if r.Kind == registrytest.Manifest && (r.Method == method || method == "") {
				return f
			}
			return nil
		}
	}
	for name, choose := range map[string]func(registrytest.Request) registrytest.Fault{
		"manifests in chunks": manifests("GET", registrytest.Chunked),
		"everything in chunks": func(r registrytest.Request) registrytest.Fault {
			return map[bool]registrytest.Fault{true: registrytest.Chunked}[r.Method == http.MethodGet]
		},
		"no digest":           manifests("", registrytest.Header("Docker-Content-Digest", "")),
		"no type":             manifests("GET", registrytest.Header("Content-Type", "")),
		"the type of a text":  manifests("GET", registrytest.Header("Content-Type", "text/plain; charset=utf-8")),
		"a type that is none": manifests("GET", registrytest.Header("Content-Type", ";;")),
		"HEAD is not allowed": func(r registrytest.Request) registrytest.Fault {
			return map[bool]registrytest.Fault{true: registrytest.Status(405)}[r.Method == http.MethodHead]
		},
		"HEAD is not known": func(r registrytest.Request) registrytest.Fault {
			return map[bool]registrytest.Fault{true: registrytest.Status(501)}[r.Method == http.MethodHead]
		},
		"HEAD finds nothing": func(r registrytest.Request) registrytest.Fault {
			return map[bool]registrytest.Fault{true: registrytest.Status(404)}[r.Method == http.MethodHead]
		},
		"challenges for others come first": challenged,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, other := registrytest.New(t), registrytest.New(t)
			index, _, _ := m.PutPlatforms("app", "1")
			m.Misbehave(choose)
			c := newClient(t)
			if name == "challenges for others come first" {
				c.login(m.Addr, "alice", "secret")
			}
			if got := c.pull(m.Name("app:1"), "all").Root.Digest.String(); got != index.Digest {
				t.Errorf("pulled %s, want %s", got, index.Digest)
			}
			c.tag(m.Name("app:1"), m.Name("back:2"))
			if got := c.push(m.Name("back:2"), PushOptions{}).Root.Digest.String(); got != index.Digest {
				t.Errorf("pulled %s, pushed %s", index.Digest, got)
			}
			if got := registrytest.Digest(m.Manifest("back", "2").Data); got != index.Digest {
				t.Errorf("the registry has %s", got)
			}
			c.build("new", m.Name("mine:1"))
			c.push(m.Name("mine:1"), PushOptions{})
			c.copies(m.Name("app:1"), other.Name("copy:1"), CopyOptions{})
			c.copies(other.Name("copy:1"), m.Name("home:1"), CopyOptions{})
			if got := registrytest.Digest(m.Manifest("home", "1").Data); got != index.Digest {
				t.Errorf("copied there and back it is %s", got)
			}
			if got, err := Inspect(t.Context(), c.client, parseName(t, m.Name("app:1"))); err != nil || got.Root.Digest.String() != index.Digest {
				t.Errorf("inspect: %v, %v", got, err)
			}
		})
	}
}

// challenged asks for a password with challenges before it that are for other clients.
func challenged(r registrytest.Request) registrytest.Fault {
	if r.Authorized {
		return nil
	}
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for _, c := range []string{"Negotiate", `Digest realm="x", nonce="y"`, `Basic realm="tests"`} {
			w.Header().Add("WWW-Authenticate", c)
		}
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// moved is a registry whose uploads go to storage at another port.
func moved(t *testing.T, where func(storage, location string) string, choose func(storage string, w http.ResponseWriter, r *http.Request) bool) (m *registrytest.Server, storage *registrytest.Proxy) {
	t.Helper()
	m = registrytest.New(t)
	storage = registrytest.NewProxy(t, m.Memory)
	m.Misbehave(func(registrytest.Request) registrytest.Fault {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			user, password, ok := r.BasicAuth()
			if !ok || user != "alice" || password != "secret" {
				registrytest.Status(401, "WWW-Authenticate", `Basic realm="tests"`)(w, r, next)
				return
			}
			if choose != nil && choose(storage.URL, w, r) {
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			if rec.Code == http.StatusAccepted {
				rec.Header().Set("Location", where(storage.URL, rec.Header().Get("Location")))
			}
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			_, _ = w.Write(rec.Body.Bytes())
		}
	})
	return m, storage
}

// TestUploadsThatMove to storage of another host are followed, without the registry's credentials; to the registry itself
// they go with them.
func TestUploadsThatMove(t *testing.T) {
	for name, c := range map[string]struct {
		where     func(storage, location string) string
		choose    func(storage string, w http.ResponseWriter, r *http.Request) bool
		elsewhere bool
	}{
		"another host":             {func(s, l string) string { return s + l }, nil, true},
		"another host, signed":     {func(s, l string) string { return s + l + "?X-Signature=a%2Fb%3D&X-Expires=1" }, nil, true},
		"another host, with name":  {func(s, l string) string { return strings.Replace(s, "http://", "http://who:secret@", 1) + l }, nil, true},
		"the registry, relative":   {func(_, l string) string { return l + "?_state=x%2By" }, nil, false},
		"another path of the host": {func(_, l string) string { return "../uploads/" + l[strings.LastIndex(l, "/")+1:] }, nil, false},
		"a redirect of the bytes": {func(_, l string) string { return l }, func(storage string, w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut && r.Method != http.MethodPatch || !strings.Contains(r.URL.Path, "/uploads/") {
				return false
			}
			w.Header().Set("Location", storage+r.URL.Path)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, storage := moved(t, c.where, c.choose)
			user := newClient(t)
			user.login(m.Addr, "alice", "secret")
			user.build("moved", m.Name("app:1"))
			user.push(m.Name("app:1"), PushOptions{})
			if n := len(storage.SeenBy("PUT", registrytest.Upload)); (n > 0) != c.elsewhere {
				t.Errorf("the other host took %d blobs", n)
			}
			for _, r := range storage.Seen() {
				if r.Authorized {
					t.Errorf("the other host saw credentials: %+v", r)
				}
			}
			m.Behave()
			user.validate(m.Name("app:1"))
		})
	}
}

// TestUploadsThatMoveForEver end.
func TestUploadsThatMoveForEver(t *testing.T) {
	m := registrytest.New(t)
	c := newClient(t)
	c.build("moved", m.Name("app:1"))
	m.Misbehave(func(r registrytest.Request) registrytest.Fault {
		if r.Kind != registrytest.Upload || r.Method == http.MethodPost {
			return nil
		}
		return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			w.Header().Set("Location", r.URL.Path)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	})
	c.refusesPush(`moves the upload again and again`, m.Name("app:1"))
	if n := len(m.Seen(registrytest.Upload)); n > 60 {
		t.Errorf("it asked %d times", n)
	}
}

// TestWhatARefusalSays is shown in one line, of bounded length, whatever form it has.
func TestWhatARefusalSays(t *testing.T) {
	oci := func(code, message string) string {
		return fmt.Sprintf(`{"errors":[{"code":%q,"message":%q,"detail":{"much":"more"}}]}`, code, message)
	}
	for name, c := range map[string]struct {
		fault registrytest.Fault
		says  string
	}{
		"a quota":           {registrytest.Says(403, "application/json", oci("DENIED", "quota of 5 GiB exceeded\nask admin@example.com")), `denied: quota of 5 GiB exceeded ask admin@example.com`},
		"an account":        {registrytest.Says(401, "application/json", oci("UNAUTHORIZED", "the account is suspended")), `unauthorized: the account is suspended`},
		"a rate":            {registrytest.Says(429, "application/json", oci("TOOMANYREQUESTS", "pull rate limit reached"), "Retry-After", "86400"), `429: toomanyrequests: pull rate limit reached`},
		"a page":            {registrytest.Says(502, "text/html", "<html><head><title>Bad\nGateway &amp; co</title></head><body>"+strings.Repeat("much ", 1000)+"</body></html>", "Retry-After", "86400"), `502: Bad Gateway & co`},
		"a text":            {registrytest.Says(403, "text/plain", "blocked by policy 7"), `blocked by policy 7`},
		"a message":         {registrytest.Says(403, "application/json", `{"message":"blocked by policy 8"}`), `blocked by policy 8`},
		"an OAuth error":    {registrytest.Says(403, "application/json", `{"error":"invalid_grant","error_description":"the token is old"}`), `invalid grant: the token is old`},
		"nothing":           {registrytest.Says(403, "application/json", ""), `denied`},
		"megabytes":         {registrytest.Says(403, "text/plain", strings.Repeat("word ", 1<<20)), `word word`},
		"odd JSON":          {registrytest.Says(403, "application/json", `{"errors":[null,{"code":7}],"message":[]}`), `denied`},
		"bytes, no letters": {registrytest.Says(403, "text/plain", "\xff\xfe\x00"), `denied`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("x")))
			user := newClient(t)
			user.build("mine", m.Name("mine:1"))
			m.Misbehave(func(registrytest.Request) registrytest.Fault { return c.fault })
			user.refusesPull(c.says, m.Name("app:1"))
			user.refusesPush(c.says, m.Name("mine:1"))
			user.refuses(c.says, func() error {
				_, err := user.client.Tags(t.Context(), parseName(t, m.Name("app")))
				return err
			})
		})
	}
}

// TestListsThatNeverEnd: pages that repeat, that are empty, or that are elsewhere.
func TestListsThatNeverEnd(t *testing.T) {
	elsewhere := registrytest.New(t)
	elsewhere.PutImage("app", "other", runtime.GOARCH, nil, registrytest.Layer(t, "f", []byte("x")))
	for name, c := range map[string]struct {
		body, link, says string
	}{
		"the same page":  {`{"name":"app","tags":["1","2"],"repositories":["1","2"]}`, `</v2/%s?again>; rel="next"`, `circles`},
		"nothing at all": {`{"name":"app","tags":[],"repositories":null}`, `</v2/%s?again>; rel="next"`, `empty pages`},
		"another host":   {`{"name":"app","tags":["1"],"repositories":["1"]}`, `<` + elsewhere.URL + `/v2/%s>; rel="next"`, `origin`},
		"no link":        {`{"name":"app","tags":["1"],"repositories":["1"]}`, `much`, `link`},
	} {
		t.Run(name, func(t *testing.T) {
			m := registrytest.New(t)
			m.Misbehave(func(r registrytest.Request) registrytest.Fault {
				if r.Kind != registrytest.Tags && r.Kind != registrytest.Catalog {
					return nil
				}
				link := c.link
				if strings.Contains(link, "%s") {
					link = fmt.Sprintf(link, map[registrytest.Kind]string{registrytest.Tags: "app/tags/list", registrytest.Catalog: "_catalog"}[r.Kind])
				}
				return registrytest.Says(200, "application/json", c.body, "Link", link)
			})
			user := newClient(t)
			_, err := user.client.Tags(t.Context(), parseName(t, m.Name("app")))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("tags: %v, want %q", err, c.says)
			}
			err = user.client.Catalog(t.Context(), m.Addr, func(string) error { return nil })
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("catalog: %v, want %q", err, c.says)
			}
			if n := len(m.Seen()); n > 250 {
				t.Errorf("it asked %d times", n)
			}
		})
	}
	if seen := elsewhere.Seen(); len(seen) != 0 {
		t.Errorf("the other host was asked: %v", seen)
	}
}
