//go:build e2e

// Package parity builds Dockerfiles with mica and with the reference BuildKit, and compares the images file by file.
// It needs root, for BuildKit does.
package parity

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/compare"
	"github.com/micabuild/mica/test/parity/cases"
	"github.com/micabuild/mica/test/rig"
)

// peer is the reference, shared by all cases.
var peer struct {
	*rig.BuildKit
	registry *rig.Registry
	base     string // an OCI archive of the base image
	web      *cases.Web
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
	if err == nil {
		peer.web = cases.NewWeb()
		defer peer.web.Close()
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

// TestParity has mica run steps as BuildKit does, with runc, on trees that are directories.
func TestParity(t *testing.T) {
	allCases(t, []string{"MICA_RUNTIME=runc", "MICA_TREES=directories"}, nil)
}

// TestParityByDefault has mica run them as it does by itself: with crun, on trees that are filesystems in files.
func TestParityByDefault(t *testing.T) {
	allCases(t, nil, []string{
		"run/sandbox-view", // which null device hides files of /proc, and whether there is a /dev/core, is up to the runtime
	})
}

func allCases(t *testing.T, env, except []string) {
	mica := rig.NewMica(t)
	mica.Env = append(mica.Env, env...)
	mica.Run("load", "-i", peer.base)
	t.Run("cases", func(t *testing.T) {
		for i, file := range cases.Files(t) {
			name := cases.Name(file)
			if slices.Contains(except, name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := readCase(t, file, i)
				switch {
				case c.Fails:
					c.compareRefusals(t, mica)
				case c.Call != "":
					c.compareAnswers(t, mica)
				default:
					c.compareImages(t, mica)
				}
			})
		}
	})
}

// testCase is a case that both builders build.
type testCase struct {
	*cases.Case
	ownBase bool // base has no meaning
}

func readCase(t *testing.T, file string, number int) *testCase {
	t.Helper()
	return &testCase{Case: cases.Read(t, file, rig.TempDir(t), number, cases.Servers{Web: peer.web, Registry: peer.registry.Addr})}
}

func (c *testCase) withMica(t *testing.T, m *rig.Mica, dest string) rig.Output {
	t.Helper()
	args := append([]string{"build", "-o", c.output("dest=" + dest)}, c.Args...)
	return c.mica(t, m, args...)
}

func (c *testCase) mica(t *testing.T, m *rig.Mica, args ...string) rig.Output {
	t.Helper()
	context := c.URL
	if context == "" {
		context = c.Dir
		args = append(args, "-f", filepath.Join(c.Dir, c.Dockerfile))
	}
	cmd := m.Command(append(args, context)...)
	cmd.Env = append(cmd.Env, c.Env...)
	return rig.Run(t, cmd)
}

func (c *testCase) withBuildKit(t *testing.T, more ...string) rig.Output {
	t.Helper()
	args := []string{"build", "--progress", "plain", "--frontend", "dockerfile.v0"}
	if !c.ownBase {
		args = append(args, "--opt", "context:base=docker-image://"+peer.registry.Addr+"/base:latest")
	}
	if c.URL != "" {
		args = append(args, "--opt", "context="+c.URL)
	} else {
		args = append(args, "--local", "context="+c.Dir, "--local", "dockerfile="+filepath.Dir(filepath.Join(c.Dir, c.Dockerfile)),
			"--opt", "filename="+filepath.Base(c.Dockerfile))
	}
	for _, o := range c.Opts {
		args = append(args, "--opt", o)
	}
	cmd := peer.Command(append(append(args, c.PeerArgs...), more...)...)
	cmd.Env = append(os.Environ(), c.Env...)
	return rig.Run(t, cmd)
}

// output is the exporter's attributes, the same for both.
func (c *testCase) output(more string) string {
	return strings.Join(append([]string{"type=oci"}, append(c.Attrs, more)...), ",")
}

func (c *testCase) compareImages(t *testing.T, m *rig.Mica) {
	t.Helper()
	wantTar, gotTar := filepath.Join(c.Dir, "..", "want.tar"), filepath.Join(c.Dir, "..", "got.tar")
	if out := c.withBuildKit(t, "--output", c.output("dest="+wantTar)); out.Code != 0 {
		t.Fatalf("buildkit: %s", out.Stderr)
	}
	if out := c.withMica(t, m, gotTar); out.Code != 0 {
		t.Fatalf("mica: %s", out.Stderr)
	}
	want, err := compare.ReadIndex(wantTar)
	if err != nil {
		t.Fatal(err)
	}
	got, err := compare.ReadIndex(gotTar)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range compare.DiffIndexes(want, got, compare.Options{Fixed: cases.InputTime.AddDate(1, 0, 0)}) {
		t.Error(d)
	}
}

// compareAnswers compares what the front ends say to a call.
func (c *testCase) compareAnswers(t *testing.T, m *rig.Mica) {
	t.Helper()
	text := c.ask(t)
	out := c.mica(t, m, append([]string{"build", "--call", c.Call + ",format=json,ignorestatus=true"}, c.Args...)...)
	if out.Code != 0 {
		t.Fatalf("mica: %s", out.Stderr)
	}
	var want, got any
	if err := errors.Join(json.Unmarshal(text, &want), json.Unmarshal([]byte(out.Stdout), &got)); err != nil {
		t.Fatalf("%v\n%s\n%s", err, text, out.Stdout)
	}
	// Where the Dockerfile was read from is named by a session.
	for _, answer := range []any{want, got} {
		m, _ := answer.(map[string]any)
		sources, _ := m["sources"].([]any)
		for _, s := range sources {
			if m, ok := s.(map[string]any); ok {
				delete(m, "definition")
			}
		}
	}
	if !reflect.DeepEqual(want, got) {
		t.Errorf("the answer is\n%v\nwant\n%v", got, want)
	}
}

func (c *testCase) compareRefusals(t *testing.T, m *rig.Mica) {
	t.Helper()
	dest := filepath.Join(c.Dir, "..", "out.tar")
	want := c.withBuildKit(t, "--output", c.output("dest="+dest+".want"))
	if want.Code == 0 {
		t.Fatal("buildkit does not refuse")
	}
	// mica may name a line where BuildKit names none.
	if lines := c.linesNamed(want.Stderr); len(lines) > 0 && !slices.Contains(lines, c.Line) {
		t.Errorf("buildkit names the lines %s, not %s", lines, c.Line)
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
	if c.Line != "0" && !strings.Contains(last, fmt.Sprintf("%s:%s:", filepath.Base(c.Dockerfile), c.Line)) {
		t.Errorf("line %s is not named: %s", c.Line, last)
	}
	if _, err := os.Stat(dest); err == nil {
		t.Error("there is an output all the same")
	}
}

// linesNamed are the lines of the Dockerfile that BuildKit shows for an error.
func (c *testCase) linesNamed(stderr string) (lines []string) {
	shown := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(filepath.Base(c.Dockerfile)) + `:(\d+)\n-----`)
	for _, m := range shown.FindAllStringSubmatch(stderr, -1) {
		lines = append(lines, m[1])
	}
	return lines
}
