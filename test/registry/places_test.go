//go:build e2e

package registry

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestMirrorIsAskedFirst: and the registry itself when the mirror does not have it or is not there.
func TestMirrorIsAskedFirst(t *testing.T) {
	home, mirror := registrytest.New(t), registrytest.New(t)
	l := registrytest.Layer(t, "f", []byte("x"))
	d := home.PutImage("app", "1", runtime.GOARCH, nil, l)
	mirror.PutImage("cache/app", "1", runtime.GOARCH, nil, l)
	home.PutImage("rare", "1", runtime.GOARCH, nil, l)
	c := newClient(t)
	c.write("registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", home.Addr, mirror.Addr+"/cache"))
	c.mustSay(`Digest: `+d.Digest, "pull", home.Name("app:1"))
	if len(home.Seen()) != 0 || len(mirror.Seen(registrytest.Blob)) == 0 {
		t.Errorf("the mirror was asked %v, the registry %v", mirror.Seen(), home.Seen())
	}
	if got := c.inspect(home.Name("app:1"), "{{index .RepoDigests 0}}"); got != home.Name("app@"+d.Digest) {
		t.Errorf("its name is %s", got)
	}
	c.Run("pull", "-q", home.Name("rare:1"))
	mirror.Misbehave(func(registrytest.Request) registrytest.Fault { return registrytest.Hangup })
	other := newClient(t)
	other.write("registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", home.Addr, mirror.Addr+"/cache"))
	other.Run("pull", "-q", home.Name("app:1"))
	// Pushes go home.
	mirror.Behave()
	other.Run("tag", home.Name("app:1"), home.Name("app:2"))
	other.Run("push", "-q", home.Name("app:2"))
	if seen := mirror.Seen(); len(seen) != 0 || home.Manifest("app", "2").Data == nil {
		t.Errorf("the push went to the mirror: %v", seen)
	}
}

func TestBrokenConfigurationIsNamed(t *testing.T) {
	m := registrytest.New(t)
	c := newClient(t)
	c.write("registries.conf", "[[registry]\nthis is no TOML")
	c.refuses(`registries`, "pull", m.Name("app:1"))
	c.write("registries.conf", "")
	c.write("docker/config.json", "{")
	out := c.Try(nil, "pull", m.Name("app:1"))
	if out.Code != 1 {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}
}
