//go:build e2e

package commands

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// asUser is rig.AsUser.
func asUser(t *testing.T, name string, ranges bool) *rig.Mica {
	t.Helper()
	return rig.AsUser(t, name, ranges)
}

// world makes a directory readable by everybody.
func world(t *testing.T, dir string) string {
	t.Helper()
	rig.Must(t, "chmod", "-R", "a+rX", dir)
	return dir
}

func TestRootlessWithRanges(t *testing.T) {
	m := asUser(t, "mica-ranges", true)
	base := importWorld(t, m)
	out := rig.Run(t, m.Command("build", "-q", "-t", "app", world(t, directory(t, map[string]string{"Dockerfile": `FROM base
COPY --chown=dev f /f
RUN id -u && touch /mine && chown www:staff /mine && chmod 4755 /mine && rm -r /usr/share
USER dev
RUN mkdir ~/d && id -un > ~/d/who
`, "f": "f"}))))
	if out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	limited := world(t, directory(t, map[string]string{"Dockerfile": "FROM base\nRUN true\n"}))
	if out := rig.Run(t, m.Command("build", "-q", "--memory", "20m", limited)); out.Code == 0 || !strings.Contains(out.Stderr, "resource limits need ") {
		t.Errorf("a limit that nobody keeps is accepted: %d %s", out.Code, out.Stderr)
	}
	for cmd, want := range map[string]string{
		"stat -c %u:%g:%a /mine":         "33:50:4755\n",
		"stat -c %U /f /home/dev/d":      "dev\ndev\n",
		"cat /home/dev/d/who":            "dev\n",
		"ls /usr":                        "bin\n",
		"id -u":                          "1000\n",
		"cat /proc/self/uid_map | wc -l": "2\n",
	} {
		if got := m.Run("run", "app", "sh", "-c", cmd); got != want {
			t.Errorf("%s: %q, want %q", cmd, got, want)
		}
	}
	// What an ordinary user builds is what root builds: the same files in both archives, owners and all.
	archive := filepath.Join("/home/mica-ranges", "app.tar")
	m.Run("save", "-o", archive, "app")
	root := newMica(t)
	root.Run("load", "-q", "-i", archive)
	if got := root.Run("run", "app", "sh", "-c", "stat -c %u:%g:%a /mine /f"); got != "33:50:4755\n1000:1000:644\n" {
		t.Errorf("root sees %q", got)
	}
	if got, want := root.Run("inspect", "-f", "{{.Id}}", "app"), m.Run("inspect", "-f", "{{.Id}}", "app"); got != want {
		t.Errorf("root has %s, the user %s", got, want)
	}
	m.Run("rmi", "app", "base")
	m.Run("builder", "prune", "-af")
	if left, err := os.ReadDir(filepath.Join(m.Root, "layers")); err != nil || len(left) > 0 {
		t.Errorf("layers left: %v %v", left, err)
	}
	_ = base
}

// importWorld imports the small base from a file that the user may read.
func importWorld(t *testing.T, m *rig.Mica) string {
	t.Helper()
	tar, err := rig.BusyboxTar(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	world(t, filepath.Dir(tar))
	m.Run("import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "-c", `CMD ["sh"]`, tar, "base")
	return tar
}

func TestRootlessSingleID(t *testing.T) {
	m := asUser(t, "mica-single", false)
	importWorld(t, m)
	out := m.Try(nil, "build", "--progress", "plain", "-t", "app", world(t, directory(t, map[string]string{"Dockerfile": "FROM base\nCOPY --chown=33 f /f\nRUN id -u; cat /f; touch /mine\n", "f": "f"})))
	if out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if got := m.Run("run", "app", "sh", "-c", "id -u; ls /mine"); got != "0\n/mine\n" {
		t.Errorf("runs to %q", got)
	}
	// The note says what could not be kept; the layers of the image have it all the same.
	if !strings.Contains(out.Stderr, "/etc/subuid") {
		t.Errorf("no note of what cannot be represented in\n%s", out.Stderr)
	}
	archive := "/home/mica-single/app.tar"
	m.Run("save", "-o", archive, "app")
	root := newMica(t)
	root.Run("load", "-q", "-i", archive)
	if got := root.Run("run", "app", "stat", "-c", "%u", "/f", "/var/log"); got != "33\n33\n" {
		t.Errorf("root sees %q", got)
	}
	if got := m.Run("info"); !strings.Contains(got, "/etc/subuid") {
		t.Errorf("info: %s", got)
	}
}

// TestRootlessWithoutHelpers: a host that lacks uidmap is told so.
func TestRootlessWithoutHelpers(t *testing.T) {
	m := asUser(t, "mica-nohelp", true)
	tools := rig.TempDir(t)
	world(t, tools)
	for i, p := range m.Prefix {
		if strings.HasPrefix(p, "PATH=") {
			m.Prefix[i] = "PATH=" + tools
		}
	}
	for _, name := range []string{"setpriv", "env"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	out := m.Try(nil, "images")
	if out.Code == 0 || !strings.Contains(out.Stderr, "newuidmap is missing: install the package uidmap") && !strings.Contains(out.Stderr, "newgidmap is missing") {
		t.Errorf("exit code %d, %q", out.Code, out.Stderr)
	}
}
