//go:build e2e

package hurt

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// sparseTar has GNU tar archive a file that is all hole.
func sparseTar(t *testing.T, size int64, format ...string) []byte {
	t.Helper()
	dir := rig.TempDir(t)
	file := filepath.Join(dir, "holes")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", append(format, "-C", dir, "--sparse", "-cf", "-", "holes")...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestBombs meets archives that stand for more than the disk has: what is refused leaves no trace, and what is a hole in an
// archive is one on the disk.
func TestBombs(t *testing.T) {
	p := &patient{t, rig.NewMica(t)}
	p.small(t, "48m")
	rig.ImportBusybox(t, p.Mica, "base")
	p.Run("build", "-q", "-t", "app", context(t, "FROM base\nCOPY f /f\nRUN echo built > /built\n"))
	add := func(archive []byte) string {
		dir := context(t, "FROM base\nADD bomb.tar /bomb/\nRUN test $(stat -c %s /bomb/holes) = 1073741824\n")
		if err := os.WriteFile(filepath.Join(dir, "bomb.tar"), archive, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	const limit = `it unpacks to more than 64GiB, the limit of an archive or a layer: set MICA_MAX_UNPACKED_SIZE`
	for name, format := range map[string][]string{"gnu": {"--format=gnu"}, "pax": {"--format=pax"}} {
		t.Run(name, func(t *testing.T) {
			p := &patient{t, p.Mica}
			if name == "pax" { // ADD takes no other, as BuildKit
				p.refuses(1, limit, nil, "build", add(sparseTar(t, 1<<40, format...)))
				p.Run("build", "-q", add(sparseTar(t, 1<<30, format...)))
			}
			p.refuses(1, limit, bytes.NewReader(archiveWith(t, sparseTar(t, 1<<40, format...))), "load")
			p.refuses(1, limit, bytes.NewReader(sparseTar(t, 1<<40, format...)), "import", "-", "x")
			p.RunIn(bytes.NewReader(archiveWith(t, sparseTar(t, 1<<30, format...))), "load")
			p.Run("build", "-q", context(t, "FROM hostile\nCOPY --from=base / /\nRUN test $(stat -c %s /holes) = 1073741824\n"))
		})
	}
	zeroes := zipped(t, func(w io.Writer) {
		tw := tar.NewWriter(w)
		_ = tw.WriteHeader(&tar.Header{Name: "holes", Size: 1 << 30, Mode: 0o644})
		zeros(tw, 1<<30)
		_ = tw.Close()
	})
	p.RunIn(bytes.NewReader(zeroes), "import", "-", "hostile")
	p.Run("build", "-q", context(t, "FROM hostile\nCOPY --from=base / /\nRUN test $(stat -c %s /holes) = 1073741824\n"))
	p.Run("build", "-q", add(zeroes))
	p.Env = []string{"MICA_MAX_UNPACKED_SIZE=1g"}
	p.refuses(1, `more than 1GiB`, bytes.NewReader(zeroes), "import", "-", "hostile")
	p.Env = []string{"MICA_MAX_UNPACKED_SIZE=1.1g"}
	p.RunIn(bytes.NewReader(zeroes), "import", "-", "hostile")
	p.healthy()
}

// TestDescriptionBombs: what describes a build cannot take all memory, and an error about it is short.
func TestDescriptionBombs(t *testing.T) {
	p := newPatient(t)
	p.Prefix = []string{"sh", "-c", `ulimit -v 8000000; exec "$0" "$@"`}
	bake := filepath.Join(rig.TempDir(t), "docker-bake.hcl")
	matrix := `target "default" {
  name = "t${a}-${b}-${c}"
  matrix = { a = range(500), b = range(500), c = range(500) }
}`
	if err := os.WriteFile(bake, []byte(matrix), 0o600); err != nil {
		t.Fatal(err)
	}
	p.refuses(1, `the evaluation takes more than`, nil, "bake", "-f", bake, "--print")
	tenfold := "ARG A=" + strings.Repeat("${A}", 10) + "\n"
	p.refuses(1, `Dockerfile:8: a value is longer than 1MiB`, nil, "build", context(t, "FROM scratch\nARG A=0123456789\n"+strings.Repeat(tenfold, 8)))
	failing := "FROM base\nRUN false \\\n" + strings.Repeat(" && true \\\n", 10_000) + " && true\n"
	if out := p.Try(nil, "build", "--progress", "quiet", context(t, failing)); out.Code != 1 || len(out.Stderr) > 20_000 || !strings.Contains(out.Stderr, "more lines)") {
		t.Errorf("code %d, %d bytes of errors: %.2000s", out.Code, len(out.Stderr), out.Stderr)
	}
	p.Prefix = nil
	p.healthy()
}

// TestRootAccountsWithoutEnd: crun reads /etc/passwd as the container has it, for HOME, unless that is set.
func TestRootAccountsWithoutEnd(t *testing.T) {
	p := newPatient(t)
	p.Run("build", "-q", "--runtime", "crun", context(t, `FROM base
RUN mkdir -p /etc && echo 'u:x:5:6::/home/u:' > /etc/passwd
USER 5:6
RUN test "$HOME" = /home/u
USER 0
RUN ln -sf /dev/zero /etc/passwd
RUN test "$HOME" = /
`))
	p.healthy()
}
