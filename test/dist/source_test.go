//go:build e2e

package dist

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"

	"github.com/micabuild/mica/test/rig"
)

const (
	modulePath = "github.com/micabuild/mica"
	tag        = "v0.99.0"
)

// goRun runs the go command in a directory, with the environment of a user who has no settings.
func goRun(t *testing.T, dir string, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=true"), env...)
	if out := rig.Run(t, cmd); out.Code != 0 {
		t.Fatalf("go %s: exit code %d\n%s", strings.Join(args, " "), out.Code, out.Stderr)
	}
}

// TestGoInstall installs mica as a module of a proxy, without what the Makefile does.
func TestGoInstall(t *testing.T) {
	t.Parallel()
	dir, bin := copyTree(t), rig.TempDir(t)
	cache := strings.TrimSpace(rig.Must(t, "go", "env", "GOMODCACHE"))
	goRun(t, bin, []string{
		"GOPROXY=file://" + proxy(t, dir) + ",file://" + filepath.Join(cache, "cache", "download"), "GONOPROXY=none", "GOPRIVATE=", "GOSUMDB=off",
		"GOFLAGS=-trimpath -modcacherw", "GOMODCACHE=" + rig.TempDir(t), "GOBIN=" + bin,
	}, "install", modulePath+"/cmd/mica@"+tag)

	m := rig.At(t, filepath.Join(bin, "mica"))
	if got := m.Run("version", "-f", "{{.Client.Version}}"); got != tag+"\n" {
		t.Errorf("version %q, not %q", got, tag)
	}
	rig.ImportBusybox(t, m, "base")
	context := rig.TempDir(t)
	writeFiles(t, context, map[string]string{"Dockerfile": "FROM base\nCOPY a /a\nRUN cat /a /a >/b\n", "a": "a"})
	m.Run("build", "-q", "-t", "image", context)
	if got := m.Run("run", "--rm", "image", "cat", "/b"); got != "aa" {
		t.Errorf("cat /b: %q", got)
	}
}

// proxy returns a directory in the form that GOPROXY takes, with the module in dir as its only version.
func proxy(t *testing.T, dir string) string {
	t.Helper()
	root := rig.TempDir(t)
	versions := filepath.Join(root, modulePath, "@v")
	rig.Must(t, "mkdir", "-p", versions)
	rig.Must(t, "cp", filepath.Join(dir, "go.mod"), filepath.Join(versions, tag+".mod"))
	writeFiles(t, versions, map[string]string{"list": tag + "\n", tag + ".info": fmt.Sprintf(`{"Version":%q}`, tag)})
	f, err := os.Create(filepath.Join(versions, tag+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "rm", "-rf", filepath.Join(dir, "bin"))
	if err := zip.CreateFromDir(f, module.Version{Path: modulePath, Version: tag}, dir); err != nil {
		t.Fatalf("pack the module: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestBuildInClone builds in a clone of a tagged commit, as Go does without flags.
func TestBuildInClone(t *testing.T) {
	t.Parallel()
	dir := copyTree(t)
	rig.Must(t, "git", "-C", dir, "tag", tag)
	goRun(t, dir, nil, "build", "-trimpath", "-o", "bin/mica", "./cmd/mica")
	commit := strings.TrimSpace(rig.Must(t, "git", "-C", dir, "rev-parse", "HEAD"))
	got := strings.TrimSpace(rig.Must(t, filepath.Join(dir, "bin", "mica"), "version", "-f", "{{.Client.Version}} {{.Client.GitCommit}}"))
	if got != tag+" "+commit && got != tag+"+dirty "+commit {
		t.Errorf("version %q, not that of tag %s at %s", got, tag, commit)
	}
}
