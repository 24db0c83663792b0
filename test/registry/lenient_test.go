//go:build e2e

package registry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestHeadersThatRegistriesLeaveOut: pull, push and copy need neither length nor digest nor type, nor HEAD.
func TestHeadersThatRegistriesLeaveOut(t *testing.T) {
	manifests := func(method string, f rig.Fault) func(rig.Request) rig.Fault {
		return func(r rig.Request) rig.Fault {
			if r.Kind == rig.Manifest && (r.Method == method || method == "") {
				return f
			}
			return nil
		}
	}
	for name, choose := range map[string]func(rig.Request) rig.Fault{
		"manifests in chunks": manifests("GET", rig.Chunked),
		"everything in chunks": func(r rig.Request) rig.Fault {
			return map[bool]rig.Fault{true: rig.Chunked}[r.Method == http.MethodGet]
		},
		"no digest":           manifests("", rig.Header("Docker-Content-Digest", "")),
		"no type":             manifests("GET", rig.Header("Content-Type", "")),
		"the type of a text":  manifests("GET", rig.Header("Content-Type", "text/plain; charset=utf-8")),
		"a type that is none": manifests("GET", rig.Header("Content-Type", ";;")),
		"HEAD is not allowed": func(r rig.Request) rig.Fault {
			return map[bool]rig.Fault{true: rig.Status(405)}[r.Method == http.MethodHead]
		},
		"HEAD is not known": func(r rig.Request) rig.Fault {
			return map[bool]rig.Fault{true: rig.Status(501)}[r.Method == http.MethodHead]
		},
		"HEAD finds nothing": func(r rig.Request) rig.Fault {
			return map[bool]rig.Fault{true: rig.Status(404)}[r.Method == http.MethodHead]
		},
		"challenges for others come first": challenged,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, other := newMemory(t), newMemory(t)
			index, _, _ := m.twoPlatforms("app", "1")
			m.Misbehave(choose)
			c := newClient(t)
			if name == "challenges for others come first" {
				if out := c.login(m.Addr, rig.Password); out.Code != 0 {
					t.Fatalf("login: %s", out.Stderr)
				}
			}
			c.mustSay(index.Digest, "pull", "--platform", "all", m.name("app:1"))
			c.Run("tag", m.name("app:1"), m.name("back:2"))
			if got := digestIn(t, c.says("push", m.name("back:2"))); got != index.Digest {
				t.Errorf("pulled %s, pushed %s", index.Digest, got)
			}
			if got := rig.Digest(m.Manifest("back", "2").Data); got != index.Digest {
				t.Errorf("the registry has %s", got)
			}
			c.build("new", m.name("mine:1"))
			c.Run("push", "-q", m.name("mine:1"))
			c.Run("copy", m.name("app:1"), other.name("copy:1"))
			c.Run("copy", other.name("copy:1"), m.name("home:1"))
			if got := rig.Digest(m.Manifest("home", "1").Data); got != index.Digest {
				t.Errorf("copied there and back it is %s", got)
			}
			c.mustSay(index.Digest, "image", "inspect", "--remote", "-f", "{{.Descriptor.Digest}}", m.name("app:1"))
		})
	}
}

// challenged asks for a password with challenges before it that are for other clients.
func challenged(r rig.Request) rig.Fault {
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
func moved(t *testing.T, where func(storage, location string) string, choose func(storage string, w http.ResponseWriter, r *http.Request) bool) (m *memory, storage *rig.Proxy) {
	t.Helper()
	m = newMemory(t)
	storage = rig.NewProxy(t, m.Memory)
	m.Misbehave(func(rig.Request) rig.Fault {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			user, password, ok := r.BasicAuth()
			if !ok || user != rig.User || password != rig.Password {
				rig.Status(401, "WWW-Authenticate", `Basic realm="tests"`)(w, r, next)
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
			if out := user.login(m.Addr, rig.Password); out.Code != 0 {
				t.Fatalf("login: %s", out.Stderr)
			}
			user.build("moved", m.name("app:1"))
			user.Run("push", "-q", m.name("app:1"))
			if n := len(storage.SeenBy("PUT", rig.Upload)); (n > 0) != c.elsewhere {
				t.Errorf("the other host took %d blobs", n)
			}
			for _, r := range storage.Seen() {
				if r.Authorized {
					t.Errorf("the other host saw credentials: %+v", r)
				}
			}
			m.Behave()
			crane(t, "validate", "--remote", m.name("app:1"))
		})
	}
}

// TestUploadsThatMoveForEver end.
func TestUploadsThatMoveForEver(t *testing.T) {
	m := newMemory(t)
	c := newClient(t)
	c.build("moved", m.name("app:1"))
	m.Misbehave(func(r rig.Request) rig.Fault {
		if r.Kind != rig.Upload || r.Method == http.MethodPost {
			return nil
		}
		return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			w.Header().Set("Location", r.URL.Path)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	})
	c.refuses(`moves the upload again and again`, "push", m.name("app:1"))
	if n := len(m.Seen(rig.Upload)); n > 60 {
		t.Errorf("it asked %d times", n)
	}
}

// TestWhatARefusalSays is shown in one line, of bounded length, whatever form it has.
func TestWhatARefusalSays(t *testing.T) {
	oci := func(code, message string) string {
		return fmt.Sprintf(`{"errors":[{"code":%q,"message":%q,"detail":{"much":"more"}}]}`, code, message)
	}
	for name, c := range map[string]struct {
		fault rig.Fault
		says  string
	}{
		"a quota":           {rig.Says(403, "application/json", oci("DENIED", "quota of 5 GiB exceeded\nask admin@example.com")), `denied: quota of 5 GiB exceeded ask admin@example.com`},
		"an account":        {rig.Says(401, "application/json", oci("UNAUTHORIZED", "the account is suspended")), `unauthorized: the account is suspended`},
		"a rate":            {rig.Says(429, "application/json", oci("TOOMANYREQUESTS", "pull rate limit reached"), "Retry-After", "86400"), `429: toomanyrequests: pull rate limit reached`},
		"a page":            {rig.Says(502, "text/html", "<html><head><title>Bad\nGateway &amp; co</title></head><body>"+strings.Repeat("much ", 1000)+"</body></html>", "Retry-After", "86400"), `502: Bad Gateway & co`},
		"a text":            {rig.Says(403, "text/plain", "blocked by policy 7"), `blocked by policy 7`},
		"a message":         {rig.Says(403, "application/json", `{"message":"blocked by policy 8"}`), `blocked by policy 8`},
		"an OAuth error":    {rig.Says(403, "application/json", `{"error":"invalid_grant","error_description":"the token is old"}`), `invalid grant: the token is old`},
		"nothing":           {rig.Says(403, "application/json", ""), `denied`},
		"megabytes":         {rig.Says(403, "text/plain", strings.Repeat("word ", 1<<20)), `word word`},
		"odd JSON":          {rig.Says(403, "application/json", `{"errors":[null,{"code":7}],"message":[]}`), `denied`},
		"bytes, no letters": {rig.Says(403, "text/plain", "\xff\xfe\x00"), `denied`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(t)
			m.image("app", "1", here(), nil, layer(t, "made", []byte("x")))
			user := newClient(t)
			user.build("mine", m.name("mine:1"))
			m.Misbehave(func(rig.Request) rig.Fault { return c.fault })
			user.refuses(c.says, "pull", m.name("app:1"))
			user.refuses(c.says, "push", m.name("mine:1"))
			user.refuses(c.says, "tags", m.name("app"))
			if n := len(user.Try(nil, "pull", m.name("app:1")).Stderr); n > 700 {
				t.Errorf("it says %d bytes", n)
			}
		})
	}
}

// TestMirrorThatIsBusyIsLeft: another place is asked at once.
func TestMirrorThatIsBusyIsLeft(t *testing.T) {
	for name, fault := range map[string]rig.Fault{
		"for a day":      rig.Status(429, "Retry-After", "86400"),
		"for 30 seconds": rig.Status(503, "Retry-After", "30"),
		"for a while":    rig.Status(500),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home, first, second := newMemory(t), newMemory(t), newMemory(t)
			l := layer(t, "f", []byte("x"))
			home.image("app", "1", here(), nil, l)
			second.image("app", "1", here(), nil, l)
			first.Misbehave(func(rig.Request) rig.Fault { return fault })
			c := newClient(t)
			c.write("registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", home.Addr, first.Addr, second.Addr))
			c.Run("pull", "-q", home.name("app:1"))
			if n := len(first.Seen()); n == 0 || n > 2 {
				t.Errorf("the busy mirror was asked %d times", n)
			}
			if len(second.Seen(rig.Blob)) == 0 || len(home.Seen()) != 0 {
				t.Errorf("the second mirror saw %v, the registry %v", second.Seen(), home.Seen())
			}
		})
	}
}

// TestListsThatNeverEnd: pages that repeat, that are empty, or that are elsewhere.
func TestListsThatNeverEnd(t *testing.T) {
	elsewhere := newMemory(t)
	elsewhere.image("app", "other", here(), nil, layer(t, "f", []byte("x")))
	for name, c := range map[string]struct {
		body, link, says string
	}{
		"the same page":  {`{"name":"app","tags":["1","2"],"repositories":["1","2"]}`, `</v2/%s?again>; rel="next"`, `circles`},
		"nothing at all": {`{"name":"app","tags":[],"repositories":null}`, `</v2/%s?again>; rel="next"`, `empty pages`},
		"another host":   {`{"name":"app","tags":["1"],"repositories":["1"]}`, `<` + elsewhere.URL + `/v2/%s>; rel="next"`, `origin`},
		"no link":        {`{"name":"app","tags":["1"],"repositories":["1"]}`, `much`, `link`},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(t)
			m.Misbehave(func(r rig.Request) rig.Fault {
				if r.Kind != rig.Tags && r.Kind != rig.Catalog {
					return nil
				}
				link := c.link
				if strings.Contains(link, "%s") {
					link = fmt.Sprintf(link, map[rig.Kind]string{rig.Tags: "app/tags/list", rig.Catalog: "_catalog"}[r.Kind])
				}
				return rig.Says(200, "application/json", c.body, "Link", link)
			})
			user := newClient(t)
			for _, args := range [][]string{{"tags", m.name("app")}, {"catalog", m.Addr}} {
				if out := user.Try(nil, args...); out.Code == 0 || !strings.Contains(out.Stderr, c.says) {
					t.Errorf("mica %v: exit code %d, says %q, want %q", args, out.Code, out.Stderr, c.says)
				}
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
