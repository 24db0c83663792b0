//go:build e2e

// Package registry pulls from registries and pushes to them: Debian's docker-registry, open, with passwords over TLS and
// with a token server; one in memory, which holds what no honest registry would; and a proxy that misbehaves. The peers
// are skopeo, crane, umoci and Docker. It needs root.
package registry

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// client is a mica with an empty store, and no configuration but its own.
type client struct {
	*rig.Mica
	t    *testing.T
	home string
}

func newClient(t *testing.T) *client {
	t.Helper()
	c := &client{rig.NewMica(t), t, rig.TempDir(t)}
	c.Env = append(c.Env, "HOME="+c.home, "DOCKER_CONFIG="+filepath.Join(c.home, "docker"), "XDG_RUNTIME_DIR="+filepath.Join(c.home, "run"),
		"XDG_CONFIG_HOME="+filepath.Join(c.home, "config"), "REGISTRY_AUTH_FILE=", "CONTAINERS_REGISTRIES_CONF="+filepath.Join(c.home, "registries.conf"))
	c.write("registries.conf", "")
	return c
}

// write writes a file of the client's home.
func (c *client) write(name, text string) {
	c.t.Helper()
	path := filepath.Join(c.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// says runs mica, which must succeed, and gives all it prints.
func (c *client) says(args ...string) string {
	c.t.Helper()
	out := c.Try(nil, args...)
	if out.Code != 0 {
		c.t.Fatalf("mica %s: exit code %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stderr + out.Stdout
}

// mustSay runs mica, which must succeed and print what matches.
func (c *client) mustSay(pattern string, args ...string) string {
	c.t.Helper()
	got := c.says(args...)
	if !regexp.MustCompile(pattern).MatchString(got) {
		c.t.Errorf("mica %s: %q, want %q", strings.Join(args, " "), got, pattern)
	}
	return got
}

// images is what the store has.
func (c *client) images() string {
	c.t.Helper()
	return c.Run("images", "-a", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}} {{.ID}}")
}

// refuses runs mica, which must fail with one line that matches, and change nothing.
func (c *client) refuses(pattern string, args ...string) {
	c.t.Helper()
	before := c.images()
	out := c.Try(nil, args...)
	lines := strings.Split(strings.TrimSpace(out.Stderr), "\n")
	last := lines[len(lines)-1]
	if out.Code != 1 || !strings.HasPrefix(last, "Error: ") && !strings.HasPrefix(last, "ERROR: ") || !regexp.MustCompile(pattern).MatchString(last) {
		c.t.Errorf("mica %s: exit code %d, says %q, want %q", strings.Join(args, " "), out.Code, last, pattern)
	}
	if n := strings.Count(strings.ToUpper(out.Stderr), "ERROR:"); n > 1 {
		c.t.Errorf("mica %s: says %d errors:\n%s", strings.Join(args, " "), n, out.Stderr)
	}
	for _, internal := range []string{"panic", "goroutine ", " 0x", "%!"} {
		if strings.Contains(out.Stderr, internal) {
			c.t.Errorf("mica %s: internals show:\n%s", strings.Join(args, " "), out.Stderr)
		}
	}
	if after := c.images(); after != before {
		c.t.Errorf("mica %s failed, and the store has\n%snot\n%s", strings.Join(args, " "), after, before)
	}
	c.Run("system", "df")
}

// inspect gives one property of an image of the store.
func (c *client) inspect(ref, format string) string {
	c.t.Helper()
	return strings.TrimSpace(c.Run("inspect", "-f", format, ref))
}

// content reads a file of an image, which shows that its layers are whole.
func (c *client) content(ref, file string) string {
	c.t.Helper()
	tree := filepath.Join(rig.TempDir(c.t), "tree.tar")
	c.Run("export", "-o", tree, ref)
	return rig.Must(c.t, "tar", "-xOf", tree, file)
}

// build makes an image of two layers, the file "made" in it says text, under each name.
func (c *client) build(text string, names ...string) {
	c.t.Helper()
	dir := rig.TempDir(c.t)
	for name, data := range map[string]string{"Dockerfile": "FROM scratch\nCOPY made /made\nCOPY big /big\nENV made=here\n", "made": text, "big": string(registrytest.Noise(300_000))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	args := []string{"build", "-q", dir}
	for _, n := range names {
		args = append(args, "-t", n)
	}
	c.Run(args...)
}

// open starts an empty docker-registry that anybody may use.
func open(t *testing.T) string {
	t.Helper()
	r, err := rig.StartRegistry(rig.TempDir(t))
	return started(t, r, err)
}

// started gives the address of a registry, and stops it with the test.
func started(t *testing.T, r *rig.Registry, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r.Addr
}

var digestPattern = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// digestIn takes the first digest out of a text.
func digestIn(t *testing.T, text string) string {
	t.Helper()
	d := digestPattern.FindString(text)
	if d == "" {
		t.Fatalf("no digest in %q", text)
	}
	return d
}

// crane runs crane, which must succeed, and gives its stdout.
func crane(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(rig.Must(t, rig.Binary(t, "peers/crane"), args...))
}
