//go:build e2e

// Package parity builds Dockerfiles with mica and with the reference BuildKit, and compares the images file by file.
// It needs root, for BuildKit does.
package parity

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/test/compare"
	"github.com/micabuild/mica/test/rig"
)

// peer is the reference, shared by all cases.
var peer struct {
	*rig.BuildKit
	registry *rig.Registry
	base     string // an OCI archive of the base image
}

func TestMain(m *testing.M) { os.Exit(serve(m)) }

func serve(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mica-parity-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		peer.registry, err = rig.StartRegistry(dir)
	}
	if err == nil {
		defer func() { _ = peer.registry.Stop() }()
		peer.BuildKit, err = rig.StartBuildKit(dir)
	}
	if err == nil {
		defer func() { _ = peer.Stop() }()
		err = makeBase(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// makeBase has BuildKit make the base image, and pushes it to where BuildKit can have it from.
func makeBase(dir string) error {
	if _, err := rig.BusyboxTar(dir); err != nil {
		return err
	}
	ctx := filepath.Join(dir, "base")
	if err := os.Mkdir(ctx, 0o755); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, "busybox.tar"), filepath.Join(ctx, "busybox.tar")); err != nil {
		return err
	}
	dockerfile := "FROM scratch\nADD busybox.tar /\nENV PATH=/usr/sbin:/usr/bin:/sbin:/bin\nCMD [\"sh\"]\n"
	if err := os.WriteFile(filepath.Join(ctx, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return err
	}
	peer.base = filepath.Join(dir, "base.tar")
	for _, cmd := range []*exec.Cmd{
		peer.Command("build", "--frontend", "dockerfile.v0", "--local", "context="+ctx, "--local", "dockerfile="+ctx,
			"--output", "type=oci,name=docker.io/library/base:latest,dest="+peer.base),
		exec.Command("skopeo", "copy", "--dest-tls-verify=false", "oci-archive:"+peer.base, "docker://"+peer.registry.Addr+"/base:latest"),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	return nil
}

// testCase is a Dockerfile with its context.
type testCase struct {
	dir        string
	dockerfile string
	args       []string // for mica
	opts       []string // for buildctl
	fails      bool
	line       string // that both must name when they refuse, "0" for none
}

func TestParity(t *testing.T) {
	mica := rig.NewMica(t)
	mica.Run("load", "-i", peer.base)
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d cases: %v", len(files), err)
	}
	t.Run("cases", func(t *testing.T) {
		for i, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				t.Parallel()
				c := readCase(t, file, i)
				if c.fails {
					c.compareRefusals(t, mica)
				} else {
					c.compareImages(t, mica)
				}
			})
		}
	})
}

// inputTime is when the first case's context was last changed. Every case has a time of its own: BuildKit takes files of
// the same name, size and time for equal, in whatever context it met them.
var inputTime = time.Date(2022, 2, 3, 4, 5, 6, 0, time.UTC)

func readCase(t *testing.T, file string, number int) *testCase {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := &testCase{dir: filepath.Join(rig.TempDir(t), "context"), dockerfile: "Dockerfile"}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		path := filepath.Join(c.dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	finish := `[ ! -f setup.sh ] || { . ./setup.sh; rm setup.sh; }; find . -newermt 2023-01-01 -exec touch -h -d @` +
		fmt.Sprint(inputTime.Unix()+int64(number)*60) + ` {} +`
	if out, err := exec.Command("sh", "-ec", "cd "+c.dir+"; "+finish).CombinedOutput(); err != nil {
		t.Fatalf("setup: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(a.Comment)) {
		c.option(t, strings.TrimSpace(line))
	}
	return c
}

func (c *testCase) option(t *testing.T, line string) {
	t.Helper()
	word, value, _ := strings.Cut(line, " ")
	switch word {
	case "arg":
		c.args = append(c.args, "--build-arg", value)
		c.opts = append(c.opts, "build-arg:"+value)
	case "label":
		c.args = append(c.args, "--label", value)
		c.opts = append(c.opts, "label:"+value)
	case "target":
		c.args = append(c.args, "--target", value)
		c.opts = append(c.opts, "target="+value)
	case "add-host":
		c.args = append(c.args, "--add-host", value)
		c.opts = append(c.opts, "add-hosts="+strings.Replace(value, ":", "=", 1))
	case "file":
		c.dockerfile = value
	case "fails":
		c.fails, c.line = true, value
	case "":
	default:
		t.Fatalf("unknown option %q", line)
	}
}

func (c *testCase) withMica(t *testing.T, m *rig.Mica, dest string) rig.Output {
	t.Helper()
	args := append([]string{"build", "-f", filepath.Join(c.dir, c.dockerfile), "-o", "type=oci,dest=" + dest}, c.args...)
	return m.Try(nil, append(args, c.dir)...)
}

func (c *testCase) withBuildKit(t *testing.T, dest string) rig.Output {
	t.Helper()
	args := []string{
		"build", "--progress", "plain", "--frontend", "dockerfile.v0",
		"--local", "context=" + c.dir, "--local", "dockerfile=" + filepath.Dir(filepath.Join(c.dir, c.dockerfile)),
		"--opt", "filename=" + filepath.Base(c.dockerfile),
		"--opt", "context:base=docker-image://" + peer.registry.Addr + "/base:latest",
		"--output", "type=oci,dest=" + dest,
	}
	for _, o := range c.opts {
		args = append(args, "--opt", o)
	}
	return rig.Run(t, peer.Command(args...))
}

func (c *testCase) compareImages(t *testing.T, m *rig.Mica) {
	t.Helper()
	wantTar, gotTar := filepath.Join(c.dir, "..", "want.tar"), filepath.Join(c.dir, "..", "got.tar")
	if out := c.withBuildKit(t, wantTar); out.Code != 0 {
		t.Fatalf("buildkit: %s", out.Stderr)
	}
	if out := c.withMica(t, m, gotTar); out.Code != 0 {
		t.Fatalf("mica: %s", out.Stderr)
	}
	want, err := compare.Read(wantTar)
	if err != nil {
		t.Fatal(err)
	}
	got, err := compare.Read(gotTar)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range compare.Diff(want, got, compare.Options{Fixed: inputTime.AddDate(1, 0, 0)}) {
		t.Error(d)
	}
}

func (c *testCase) compareRefusals(t *testing.T, m *rig.Mica) {
	t.Helper()
	dest := filepath.Join(c.dir, "..", "out.tar")
	if out := c.withBuildKit(t, dest+".want"); out.Code == 0 {
		t.Fatal("buildkit does not refuse")
	}
	out := c.withMica(t, m, dest)
	if out.Code != 1 {
		t.Fatalf("exit code %d\n%s", out.Code, out.Stderr)
	}
	lines := strings.Split(strings.TrimSpace(out.Stderr), "\n")
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "ERROR: ") {
		t.Errorf("last line is %q", last)
	}
	if c.line != "0" && !strings.Contains(last, fmt.Sprintf("%s:%s:", filepath.Base(c.dockerfile), c.line)) {
		t.Errorf("line %s is not named: %s", c.line, last)
	}
	if _, err := os.Stat(dest); err == nil {
		t.Error("there is an output all the same")
	}
}
