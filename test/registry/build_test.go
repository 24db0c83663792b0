//go:build e2e

package registry

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// dockerfile is a directory to build from.
func dockerfile(t *testing.T, text string) string {
	t.Helper()
	dir := rig.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBuildPullsWhatIsMissing(t *testing.T) {
	m := registrytest.New(t)
	m.PutImage("base", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("old")))
	c := newClient(t)
	dir := dockerfile(t, "FROM "+m.Name("base:1")+" AS b\nFROM scratch\nCOPY --from=b made /copied\nCOPY --from="+m.Name("base:1")+" made /again\n")
	c.Run("build", "-q", "-t", "app", dir)
	if c.content("app", "copied") != "old" || c.content("app", "again") != "old" {
		t.Error("the base is another")
	}
	// It is there now: nobody is asked, until --pull.
	m.Behave()
	c.Run("build", "-q", "-t", "app", dir)
	if seen := m.Seen(); len(seen) != 0 {
		t.Errorf("the registry is asked again: %v", seen)
	}
	m.PutImage("base", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("new")))
	c.Run("build", "-q", "-t", "app", dir)
	if got := c.content("app", "copied"); got != "old" {
		t.Errorf("without --pull the base is %q", got)
	}
	c.Run("build", "-q", "--pull", "-t", "app", dir)
	if got := c.content("app", "copied"); got != "new" {
		t.Errorf("with --pull the base is %q", got)
	}
	// --pull without a registry fails, and the tag stays.
	m.Misbehave(registrytest.Always(registrytest.Status(404)))
	c.refuses(`base:1`, "build", "-q", "--pull", "-t", "app", dir)
	c.refuses(`none:1.*not found|not found.*none:1`, "build", "-q", "-t", "app", dockerfile(t, "FROM "+m.Name("none:1")+"\n"))
}

func TestBuildOfAnotherPlatform(t *testing.T) {
	m := registrytest.New(t)
	m.PutPlatforms("base", "1")
	c := newClient(t)
	dir := dockerfile(t, "FROM --platform=linux/"+registrytest.OtherArch()+" "+m.Name("base:1")+"\nCOPY Dockerfile /\n")
	c.Run("build", "-q", "-t", "app", dir)
	if got := c.content("app", "made"); got != registrytest.OtherArch() {
		t.Errorf("FROM --platform=linux/%s gives one for %s", registrytest.OtherArch(), got)
	}
	c.Run("build", "-q", "-t", "app", dockerfile(t, "FROM "+m.Name("base:1")+"\nCOPY Dockerfile /\n"))
	if got := c.content("app", "made"); got != runtime.GOARCH {
		t.Errorf("FROM gives one for %s", got)
	}
}

func TestBuildPushes(t *testing.T) {
	m := registrytest.New(t)
	m.PutImage("base", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("base")))
	c := newClient(t)
	dir := dockerfile(t, "FROM "+m.Name("base:1")+"\nCOPY Dockerfile /\n")
	c.Run("build", "-q", "--push", "-t", m.Name("app:1"), "-t", m.Name("app:2"), dir)
	crane(t, "validate", "--remote", m.Name("app:1"))
	if one, two := m.Manifest("app", "1"), m.Manifest("app", "2"); string(one.Data) != string(two.Data) {
		t.Errorf("one tag is %s, the other %s", one.Data, two.Data)
	}
	other := newClient(t)
	other.Run("pull", "-q", m.Name("app:2"))
	if got := other.content(m.Name("app:2"), "made"); got != "base" {
		t.Errorf("what comes back has %q", got)
	}
	c.refuses(`tag|name`, "build", "-q", "--push", dir)
	m.Misbehave(registrytest.On("PUT", registrytest.Manifest, 1, 0, registrytest.Status(403)))
	out := c.Try(nil, "build", "-q", "--push", "-t", m.Name("app:3"), dir)
	if out.Code != 1 || !strings.Contains(out.Stderr, "denied") || strings.Count(out.Stderr, "\n") != 1 {
		t.Errorf("a push that is denied: exit code %d, %q", out.Code, out.Stderr)
	}
}

func TestRunPullsWhatIsMissing(t *testing.T) {
	addr := open(t)
	c := newClient(t)
	rig.ImportBusybox(t, c.Mica, addr+"/box:1")
	c.Run("push", "-q", addr+"/box:1")
	other := newClient(t)
	out := other.Try(nil, "run", "--rm", "--network", "none", addr+"/box:1", "echo", "hello")
	if out.Code != 0 || out.Stdout != "hello\n" || !strings.Contains(out.Stderr, "Status: Downloaded newer image") {
		t.Errorf("exit code %d, %q, %q", out.Code, out.Stdout, out.Stderr)
	}
	if out := other.Try(nil, "run", "--rm", "--network", "none", addr+"/box:1", "echo", "hello"); out.Stdout != "hello\n" || out.Stderr != "" {
		t.Errorf("the second time: %q, %q", out.Stdout, out.Stderr)
	}
	if out := other.Try(nil, "run", "--rm", addr+"/none:1", "true"); out.Code != 125 || !strings.Contains(out.Stderr, "not found") {
		t.Errorf("what is not there: exit code %d, %q", out.Code, out.Stderr)
	}
}
