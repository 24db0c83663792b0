//go:build e2e

// Package ecosystems builds Dockerfiles as people write them for eight ecosystems, with the packages that the real
// registries of these have, and runs what was built. It needs root, for debootstrap, and package registries.
package ecosystems

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// built are the Dockerfiles, and what their images print.
var built = map[string]struct {
	args []string // for the build
	run  []string // in place of the image's command
	want string
}{
	"debian":      {want: "dev works"},
	"python":      {want: "flask answers"},
	"node":        {want: "a day has 86400000 ms, and 3 is odd"},
	"go":          {args: []string{"--build-arg", "VERSION=v7"}, want: "v7 cfbff0d1-9375-5685-968c-48ce8b15ae17"},
	"rust":        {want: "rust counts to 42"},
	"java":        {want: "Java runs"},
	"nginx":       {run: []string{"nginx", "-t"}, want: ""},
	"application": {args: []string{"--secret", "id=token,env=HOME"}, want: "sqlite counted 1"},
}

func TestEcosystems(t *testing.T) {
	m := rig.NewMica(t)
	base := filepath.Join(rig.Top(), "bin", "demo", "debian.tar")
	if out := rig.Run(t, exec.Command(filepath.Join(rig.Top(), "scripts", "debian-base"), base)); out.Code != 0 {
		t.Fatalf("debian-base: %s", out.Stderr)
	}
	m.Run("import", "--change", `CMD ["bash"]`, base, "debian:bookworm-slim")
	for name, c := range built {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := context(t, name)
			args := append([]string{"build", "--progress", "plain", "-t", name, dir}, c.args...)
			if out := m.Try(nil, append(args, "--host-certs")...); out.Code != 0 {
				t.Fatalf("build: %s", out.Stderr)
			}
			out := m.Try(nil, append([]string{"run", "--rm", name}, c.run...)...)
			if out.Code != 0 || strings.TrimSpace(out.Stdout) != c.want {
				t.Errorf("exit code %d, printed %q, want %q\n%s", out.Code, out.Stdout, c.want, out.Stderr)
			}
			// The certificates are in no key: without them, nothing is built again.
			again := m.Try(nil, args...)
			if again.Code != 0 || regexp.MustCompile(`(?m)^#\d+ \[.*\] RUN .*\n(#\d+ [0-9.]+ )`).MatchString(again.Stderr) {
				t.Errorf("a step ran again:\n%s", again.Stderr)
			}
			leavesNoCertificates(t, m, name)
		})
	}
}

// context is a copy of a test's directory, with what is not kept in it.
func context(t *testing.T, name string) string {
	t.Helper()
	dir, from := filepath.Join(rig.TempDir(t), name), filepath.Join("testdata", name)
	if name == "nginx" {
		from = filepath.Join(rig.Top(), "demo", "nginx")
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if name == "nginx" {
		if out, err := exec.Command("tar", "-C", filepath.Join(dir, "site"), "-czf", filepath.Join(dir, "site.tar.gz"), ".").CombinedOutput(); err != nil {
			t.Fatalf("tar: %v\n%s", err, out)
		}
	}
	return dir
}

// leavesNoCertificates looks for what --host-certs shows to processes: in the files, the config and the history.
func leavesNoCertificates(t *testing.T, m *rig.Mica, name string) {
	t.Helper()
	for what, text := range map[string]string{
		"config": m.Run("inspect", name), "history": m.Run("history", "--no-trunc", name),
	} {
		for _, trace := range []string{"/run/mica", "PIP_CERT", "trustStore", "SSL_CERT_FILE"} {
			if strings.Contains(text, trace) {
				t.Errorf("the %s has %s", what, trace)
			}
		}
	}
	out := filepath.Join(rig.TempDir(t), "image.tar")
	if built := m.Try(strings.NewReader("FROM "+name), "build", "-q", "-o", "type=tar,dest="+out, "-"); built.Code != 0 {
		t.Fatal(built.Stderr)
	}
	list := rig.Run(t, exec.Command("tar", "-tf", out))
	if list.Code != 0 || strings.Contains(list.Stdout, "run/mica") {
		t.Errorf("the image's files have it: %s%s", list.Stderr, list.Stdout)
	}
}
