package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/configfile"

	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// newClient returns a client that retries at once, and has no configuration.
func newClient() *registry.Client {
	return registry.New(registry.Options{Docker: configfile.New(""), RegistriesConf: os.DevNull, UserAgent: "test", FirstWait: time.Millisecond})
}

func parseName(t testing.TB, name string) reference.Named {
	t.Helper()
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	return named
}

func open(t testing.TB, c *registry.Client, name string) *registry.Repository {
	t.Helper()
	repo, err := c.Repository(t.Context(), parseName(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// configured is newClient with a registries.conf.
func configured(t *testing.T, format string, args ...any) *registry.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registries.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return registry.New(registry.Options{Docker: configfile.New(""), RegistriesConf: path, UserAgent: "test", FirstWait: time.Millisecond})
}

// fetch returns the registry or mirror that a manifest comes from.
func fetch(t *testing.T, c *registry.Client, name string) (from string, err error) {
	t.Helper()
	err = c.Try(t.Context(), parseName(t, name), func(ctx context.Context, repo *registry.Repository) error {
		from = repo.Registry()
		_, err := repo.FetchManifest(ctx, repo.Reference())
		return err
	})
	return from, err
}

func putImage(m *registrytest.Server, repo string) registrytest.Descriptor {
	return m.PutImage(repo, "1", runtime.GOARCH, nil, registrytest.Layer(m.T, "f", []byte("x")))
}

// TestMirrors: mirrors come first, and the registry itself if they fail. A mirror that is busy is not waited for.
func TestMirrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		first, second registrytest.Fault // of the mirrors; nil for one that has the image
		requests      int                // at most, to the first mirror
		want          int                // 0 and 1 are mirrors, 2 is the registry
	}{
		"first":           {nil, nil, 1, 0},
		"missing":         {registrytest.Status(404), nil, 1, 1},
		"busy for a day":  {registrytest.Status(429, "Retry-After", "86400"), nil, 2, 1},
		"busy for 30 s":   {registrytest.Status(503, "Retry-After", "30"), nil, 2, 1},
		"fails":           {registrytest.Status(500), nil, 2, 1},
		"breaks":          {registrytest.Hangup, nil, 2, 1},
		"neither mirror":  {registrytest.Status(404), registrytest.Status(403), 1, 2},
		"denied at first": {registrytest.Status(403), nil, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			places := []*registrytest.Server{registrytest.New(t), registrytest.New(t), registrytest.New(t)}
			putImage(places[0], "cache/app")
			putImage(places[1], "app")
			putImage(places[2], "app")
			c := configured(t, "[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n",
				places[2].Addr, places[0].Addr+"/cache", places[1].Addr)
			for i, fault := range []registrytest.Fault{test.first, test.second} {
				places[i].Misbehave(func(registrytest.Request) registrytest.Fault { return fault })
			}
			from, err := fetch(t, c, places[2].Name("app:1"))
			if err != nil || from != places[test.want].Addr {
				t.Errorf("from %s, want %s: %v", from, places[test.want].Addr, err)
			}
			if n := len(places[0].Seen(registrytest.Manifest)); n > test.requests {
				t.Errorf("%d requests to the first mirror", n)
			}
		})
	}
}

// TestMirrorsFail: the error is that of the registry.
func TestMirrorsFail(t *testing.T) {
	t.Parallel()
	m, mirror := registrytest.New(t), registrytest.New(t)
	mirror.Misbehave(registrytest.Always(registrytest.Status(403)))
	c := configured(t, "[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", m.Addr, mirror.Addr)
	_, err := fetch(t, c, m.Name("app:1"))
	var missing *registry.NotFoundError
	if !errors.As(err, &missing) || missing.Ref != m.Name("app:1") {
		t.Errorf("error %v", err)
	}
	// An error of this machine ends it before the registry is tried.
	local := &os.PathError{Op: "write", Path: "blob", Err: os.ErrPermission}
	calls := 0
	err = c.Try(t.Context(), parseName(t, m.Name("app:1")), func(context.Context, *registry.Repository) error {
		calls++
		return local
	})
	if !errors.Is(err, os.ErrPermission) || calls != 1 {
		t.Errorf("%d calls: %v", calls, err)
	}
}

// TestPushGoesToTheRegistry: never to a mirror.
func TestPushGoesToTheRegistry(t *testing.T) {
	t.Parallel()
	m, mirror := registrytest.New(t), registrytest.New(t)
	c := configured(t, "[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", m.Addr, mirror.Addr)
	repo := open(t, c, m.Name("app:1"))
	if repo.Registry() != m.Addr || repo.Path() != "app" || repo.Reference() != "1" {
		t.Errorf("opened %s/%s:%s", repo.Registry(), repo.Path(), repo.Reference())
	}
}

func TestPrefixIsRewritten(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	putImage(m, "real/app")
	c := configured(t, "[[registry]]\nprefix = \"made.example/up\"\nlocation = %q\n", m.Addr+"/real")
	if from, err := fetch(t, c, "made.example/up/app:1"); err != nil || from != m.Addr {
		t.Errorf("from %s: %v", from, err)
	}
	repo := open(t, c, m.Name("app"))
	if got := repo.Mountable([]string{"made.example/up/other", m.Name("app"), "docker.io/library/x", "NO", m.Name("a/b")}); strings.Join(got, " ") != "real/other a/b" {
		t.Errorf("mountable from %v", got)
	}
}

func TestBlockedRegistry(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	putImage(m, "team/app")
	putImage(m, "free/app")
	c := configured(t, "[[registry]]\nlocation = %q\nblocked = true\n", m.Addr+"/team")
	var blocked *registry.BlockedError
	if _, err := fetch(t, c, m.Name("team/app:1")); !errors.As(err, &blocked) {
		t.Errorf("pull: %v", err)
	}
	if _, err := c.Repository(t.Context(), parseName(t, m.Name("team/app:1"))); !errors.As(err, &blocked) {
		t.Errorf("push: %v", err)
	}
	if _, err := c.Tags(t.Context(), parseName(t, m.Name("team/app"))); !errors.As(err, &blocked) {
		t.Errorf("tags: %v", err)
	}
	if seen := m.Seen(); len(seen) != 0 {
		t.Errorf("requests %v", seen)
	}
	if _, err := fetch(t, c, m.Name("free/app:1")); err != nil {
		t.Error(err)
	}
	c = configured(t, "[[registry]]\nlocation = %q\nblocked = true\n", m.Addr)
	if err := c.Catalog(t.Context(), m.Addr, func(string) error { return nil }); !errors.As(err, &blocked) {
		t.Errorf("catalog: %v", err)
	}
	c = configured(t, "[[registry]\nnot TOML")
	if _, err := fetch(t, c, m.Name("free/app:1")); err == nil || !strings.Contains(err.Error(), "registries configuration") {
		t.Errorf("with a broken configuration: %v", err)
	}
}

// TestPlainHTTP: hosts other than loopback must support TLS, unless the configuration or the user allows them not to.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	putImage(m, "app")
	// Linux connects to loopback for this address, which is not a loopback address.
	name := strings.Replace(m.Name("app:1"), "127.0.0.1", "0.0.0.0", 1)
	host, _, _ := strings.Cut(name, "/")
	_, err := fetch(t, newClient(), name)
	var plain *registry.NoTLSError
	if !errors.As(err, &plain) || plain.Host != host || !strings.Contains(err.Error(), "registries.conf") {
		t.Errorf("error %v", err)
	}
	if seen := m.Seen(); len(seen) != 0 {
		t.Errorf("requests in plain HTTP: %v", seen)
	}
	allowed := newClient()
	allowed.AllowInsecure(parseName(t, name))
	if _, err := fetch(t, allowed, name); err != nil {
		t.Errorf("with AllowInsecure: %v", err)
	}
	c := configured(t, "[[registry]]\nlocation = %q\ninsecure = true\n", host)
	if _, err := fetch(t, c, name); err != nil {
		t.Errorf("with insecure = true: %v", err)
	}
	c = configured(t, "[[registry]]\nlocation = \"made.example\"\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n", host)
	if from, err := fetch(t, c, "made.example/app:1"); err != nil || from != host {
		t.Errorf("from an insecure mirror: %s, %v", from, err)
	}
}
