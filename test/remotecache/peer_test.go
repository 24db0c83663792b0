//go:build e2e

// Package remotecache proves that mica and BuildKit are served by each other's build caches: of the Dockerfiles of the
// parity tests, each builder exports the cache, and the other has to find every step in it.
package remotecache

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/test/rig"
)

// peer is the reference, shared by all tests.
var peer struct {
	*rig.BuildKit
	registry *rig.Registry
}

func TestMain(m *testing.M) {
	// The test's binary is mica's process in the sandbox, too.
	sandbox.Init(os.Args)
	os.Exit(serve(m))
}

func serve(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mica-remotecache-")
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

// makeBase has BuildKit make the base image and push it.
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
	text := "FROM scratch\nADD busybox.tar /\nENV PATH=/usr/sbin:/usr/bin:/sbin:/bin\nCMD [\"sh\"]\n"
	if err := os.WriteFile(filepath.Join(ctx, "Dockerfile"), []byte(text), 0o644); err != nil {
		return err
	}
	cmd := peer.Command("build", "--frontend", "dockerfile.v0", "--local", "context="+ctx, "--local", "dockerfile="+ctx,
		"--output", "type=image,push=true,registry.insecure=true,name="+peer.registry.Addr+"/base:latest")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// dockerfile is a Dockerfile with its context.
type dockerfile struct {
	dir  string
	opts []string
}

// inputTime is when the first context was last changed. Every context has a time of its own: BuildKit takes files of the
// same name, size and time for equal, in whatever context it met them.
var inputTime = time.Date(2022, 2, 3, 4, 5, 6, 0, time.UTC)

var contexts int

// dockerfiles reads the cases of the parity tests that can be built, and those beside this file.
func dockerfiles(t *testing.T) map[string]*txtar.Archive {
	t.Helper()
	cases := map[string]*txtar.Archive{}
	for _, dir := range []string{"../parity/testdata", "testdata"} {
		must(t, filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
			name, ok := strings.CutSuffix(strings.TrimPrefix(file, dir+"/"), ".txtar")
			if err != nil || !ok {
				return err
			}
			a, err := txtar.ParseFile(file)
			if err == nil && fits(a) {
				cases[name] = a
			}
			return err
		}))
	}
	if len(cases) < 40 {
		t.Fatalf("%d cases", len(cases))
	}
	return cases
}

// unpack writes a context.
func unpack(t *testing.T, a *txtar.Archive) *dockerfile {
	t.Helper()
	c := &dockerfile{dir: filepath.Join(rig.TempDir(t), "context")}
	must(t, os.Mkdir(c.dir, 0o755))
	for _, f := range a.Files {
		path := filepath.Join(c.dir, f.Name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, f.Data, 0o644))
	}
	contexts++
	finish := `[ ! -f setup.sh ] || { . ./setup.sh; rm setup.sh; }; find . -newermt 2023-01-01 -exec touch -h -d @` +
		fmt.Sprint(inputTime.Unix()+int64(contexts)*60) + ` {} +`
	if out, err := exec.Command("sh", "-ec", "cd "+c.dir+"; "+finish).CombinedOutput(); err != nil {
		t.Fatalf("setup: %v\n%s", err, out)
	}
	c.opts = []string{"context:base=docker-image://" + peer.registry.Addr + "/base:latest"}
	for line := range strings.Lines(string(a.Comment)) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "add-host" {
			value = strings.Replace(value, ":", "=", 1)
		}
		if word != "" {
			c.opts = append(c.opts, options[word]+value)
		}
	}
	return c
}

// options are what cases may say here of how they are built, and what the front end calls it.
var options = map[string]string{"arg": "build-arg:", "label": "label:", "target": "target=", "add-host": "add-hosts=", "file": "filename="}

// fits reports whether a case has no other options, is not to be refused, and asks none of the servers that are there for
// parity: what is built of URLs has a test of its own.
func fits(a *txtar.Archive) bool {
	for _, f := range a.Files {
		if bytes.Contains(f.Data, []byte("$HTTP")) || bytes.Contains(f.Data, []byte("$REGISTRY")) {
			return false
		}
	}
	for line := range strings.Lines(string(a.Comment)) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, ok := options[word]; !ok && word != "" {
			return false
		}
	}
	return true
}

// try builds with BuildKit, more being options of buildctl.
func (c *dockerfile) try(t *testing.T, more ...string) rig.Output {
	t.Helper()
	args := []string{"build", "--frontend", "dockerfile.v0", "--local", "context=" + c.dir, "--local", "dockerfile=" + c.dir}
	for _, o := range c.opts {
		args = append(args, "--opt", o)
	}
	return rig.Run(t, peer.Command(append(args, more...)...))
}

// buildkit is try of what must succeed.
func (c *dockerfile) buildkit(t *testing.T, more ...string) rig.Output {
	t.Helper()
	out := c.try(t, more...)
	if out.Code != 0 {
		t.Fatalf("buildkit: %s", out.Stderr)
	}
	return out
}

// stepName is how the display calls the steps of a Dockerfile, and those that a COPY --link is made of.
var stepName = regexp.MustCompile(`^(\[([^ ]+ )? *\d+/\d+\] |merge |LINK )`)

// uncached builds with BuildKit and returns the steps that it ran.
func (c *dockerfile) uncached(t *testing.T, more ...string) []string {
	t.Helper()
	dest := filepath.Join(rig.TempDir(t), "image.tar")
	out := c.buildkit(t, append(more, "--progress", "rawjson", "--output", "type=oci,dest="+dest)...)
	cached := map[string]bool{}
	for line := range strings.Lines(out.Stderr) {
		var s bkclient.SolveStatus
		if json.Unmarshal([]byte(line), &s) != nil {
			continue
		}
		for _, v := range s.Vertexes {
			if stepName.MatchString(v.Name) && !strings.Contains(v.Name, "] FROM ") {
				cached[v.Name] = cached[v.Name] || v.Cached
			}
		}
	}
	if len(cached) == 0 {
		t.Errorf("BuildKit names no step:\n%s", out.Stderr)
	}
	var ran []string
	for name, ok := range cached {
		if !ok {
			ran = append(ran, name)
		}
	}
	return ran
}

// prune makes BuildKit forget everything: a build context of before would leave its directories' modes to the next, too.
func prune(t *testing.T) {
	t.Helper()
	if out := rig.Run(t, peer.Command("prune", "--all")); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
}
