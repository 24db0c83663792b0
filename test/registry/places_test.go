//go:build e2e

package registry

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

func TestBlockedRegistryIsNotAsked(t *testing.T) {
	m := newMemory(t)
	m.image("team/app", "1", here(), nil, layer(t, "f", []byte("x")))
	m.image("free/app", "1", here(), nil, layer(t, "f", []byte("x")))
	c := newClient(t)
	c.write("registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\nblocked = true\n", m.Addr+"/team"))
	c.refuses(`blocked`, "pull", m.name("team/app:1"))
	c.refuses(`blocked`, "tags", m.name("team/app"))
	c.refuses(`blocked`, "copy", m.name("team/app:1"), "oci:"+rig.TempDir(t)+"/x")
	c.Run("import", "/dev/null", m.name("team/app:1"))
	c.refuses(`blocked`, "push", m.name("team/app:1"))
	if seen := m.Seen(); len(seen) != 0 {
		t.Errorf("it was asked: %v", seen)
	}
	c.Run("pull", "-q", m.name("free/app:1"))
	c.write("registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\nblocked = true\n", m.Addr))
	c.refuses(`blocked`, "catalog", m.Addr)
}

// TestMirrorIsAskedFirst: and the registry itself when the mirror does not have it or is not there.
func TestMirrorIsAskedFirst(t *testing.T) {
	home, mirror := newMemory(t), newMemory(t)
	l := layer(t, "f", []byte("x"))
	d := home.image("app", "1", here(), nil, l)
	mirror.image("cache/app", "1", here(), nil, l)
	home.image("rare", "1", here(), nil, l)
	c := newClient(t)
	c.write("registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", home.Addr, mirror.Addr+"/cache"))
	c.mustSay(`Digest: `+d.Digest, "pull", home.name("app:1"))
	if len(home.Seen()) != 0 || len(mirror.Seen(rig.Blob)) == 0 {
		t.Errorf("the mirror was asked %v, the registry %v", mirror.Seen(), home.Seen())
	}
	if got := c.inspect(home.name("app:1"), "{{index .RepoDigests 0}}"); got != home.name("app@"+d.Digest) {
		t.Errorf("its name is %s", got)
	}
	c.Run("pull", "-q", home.name("rare:1"))
	mirror.Misbehave(func(rig.Request) rig.Fault { return rig.Hangup })
	other := newClient(t)
	other.write("registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", home.Addr, mirror.Addr+"/cache"))
	other.Run("pull", "-q", home.name("app:1"))
	// Pushes go home.
	mirror.Behave()
	other.Run("tag", home.name("app:1"), home.name("app:2"))
	other.Run("push", "-q", home.name("app:2"))
	if seen := mirror.Seen(); len(seen) != 0 || home.Manifest("app", "2").Data == nil {
		t.Errorf("the push went to the mirror: %v", seen)
	}
}

// TestPrefixIsRewritten: a name may stand for another place, and keeps its own.
func TestPrefixIsRewritten(t *testing.T) {
	m := newMemory(t)
	m.image("real/app", "1", here(), nil, layer(t, "f", []byte("x")))
	c := newClient(t)
	c.write("registries.conf", fmt.Sprintf("[[registry]]\nprefix = \"made.example/up\"\nlocation = %q\n", m.Addr+"/real"))
	c.mustSay(`made.example/up/app:1\n$`, "pull", "made.example/up/app:1")
	c.inspect("made.example/up/app:1", "{{.Id}}")
}

func TestBrokenConfigurationIsNamed(t *testing.T) {
	m := newMemory(t)
	c := newClient(t)
	c.write("registries.conf", "[[registry]\nthis is no TOML")
	c.refuses(`registries`, "pull", m.name("app:1"))
	c.write("registries.conf", "")
	c.write("docker/config.json", "{")
	out := c.Try(nil, "pull", m.name("app:1"))
	if out.Code != 1 {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}
}

// TestRedirectDoesNotCarryCredentials: blobs may come from another host, which must not see the registry's credentials.
func TestRedirectDoesNotCarryCredentials(t *testing.T) {
	m := newMemory(t)
	m.image("app", "1", here(), nil, layer(t, "made", noise(300_000)))
	elsewhere := rig.NewProxy(t, m.Memory)
	needPassword := func(r *http.Request) bool {
		user, password, ok := r.BasicAuth()
		return !ok || user != rig.User || password != rig.Password
	}
	m.Misbehave(func(r rig.Request) rig.Fault {
		return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			switch {
			case needPassword(req):
				rig.Status(401, "WWW-Authenticate", `Basic realm="tests"`)(w, req, next)
			case r.Kind == rig.Blob && r.Method == http.MethodGet:
				rig.Redirect(elsewhere.URL)(w, req, next)
			default:
				next.ServeHTTP(w, req)
			}
		}
	})
	c := newClient(t)
	if out := c.login(m.Addr, rig.Password); out.Code != 0 {
		t.Fatalf("login: %s", out.Stderr)
	}
	c.Run("pull", "-q", m.name("app:1"))
	seen := elsewhere.Seen(rig.Blob)
	if len(seen) == 0 {
		t.Fatal("the other host served nothing")
	}
	for _, r := range elsewhere.Seen() {
		if r.Authorized {
			t.Errorf("the other host saw credentials: %+v", r)
		}
	}
	if got := c.content(m.name("app:1"), "made"); got != string(noise(300_000)) {
		t.Error("what came is another")
	}
}

// TestPlainHTTPIsForLoopback: any other host must speak TLS, unless the configuration says otherwise.
func TestPlainHTTPIsForLoopback(t *testing.T) {
	m := newMemory(t)
	m.image("app", "1", here(), nil, layer(t, "f", []byte("x")))
	// Linux takes this address for its own, but it is no loopback address.
	host := strings.Replace(m.Addr, "127.0.0.1", "0.0.0.0", 1)
	c := newClient(t)
	c.refuses(`TLS|HTTPS`, "pull", host+"/app:1")
	if seen := m.Seen(); len(seen) != 0 {
		t.Errorf("it was asked in the clear: %v", seen)
	}
	c.write("registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", host))
	c.Run("pull", "-q", host+"/app:1")
}
