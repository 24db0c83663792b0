// Package rig holds what the end-to-end tests share: mica's own binary, the peers that it is compared with, and base
// images, all made here.
package rig

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Top is the project's directory.
func Top() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Binary is a program that `make` has built: "mica", "peers/buildkitd".
func Binary(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Top(), "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: run the tests by make", path)
	}
	return path
}

// Output is what a program printed and how it ended.
type Output struct {
	Stdout, Stderr string
	Code           int
}

// Mica is mica with a store of its own.
type Mica struct {
	t      testing.TB
	Path   string
	Root   string
	Env    []string
	Prefix []string // put before the command: as another user, with a limit
}

// NewMica gives a mica with an empty store.
func NewMica(t testing.TB) *Mica {
	t.Helper()
	return At(t, Binary(t, "mica"))
}

// At is NewMica with a binary that is elsewhere than below the project's directory.
func At(t testing.TB, path string) *Mica {
	t.Helper()
	return &Mica{t: t, Path: path, Root: filepath.Join(TempDir(t), "store")}
}

// TempDir is a directory that is removed with what is in it, trees of images included.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mica-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Command is mica with args, not yet started.
func (m *Mica) Command(args ...string) *exec.Cmd {
	argv := append(append(append([]string{}, m.Prefix...), m.Path), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(environment(), "MICA_ROOT="+m.Root, "NO_COLOR=1", "LC_ALL=C.UTF-8")
	cmd.Env = append(cmd.Env, m.Env...)
	return cmd
}

// environment is the host's without proxies, which a build would take as arguments.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(strings.ToLower(kv), "=")
		return strings.HasSuffix(name, "_proxy")
	})
}

// Try runs mica and gives what came of it.
func (m *Mica) Try(stdin io.Reader, args ...string) Output {
	m.t.Helper()
	cmd := m.Command(args...)
	cmd.Stdin = stdin
	return Run(m.t, cmd)
}

// Run runs mica, which must succeed, and gives its stdout.
func (m *Mica) Run(args ...string) string {
	m.t.Helper()
	return m.RunIn(nil, args...)
}

// RunIn is Run with an input.
func (m *Mica) RunIn(stdin io.Reader, args ...string) string {
	m.t.Helper()
	out := m.Try(stdin, args...)
	if out.Code != 0 {
		m.t.Fatalf("mica %s: exit code %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stdout
}

// Run runs a command to its end.
func Run(t testing.TB, cmd *exec.Cmd) Output {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd, err)
	}
	return Output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// Must runs a program of the host, which must succeed, and gives its stdout.
func Must(t testing.TB, name string, args ...string) string {
	t.Helper()
	out := Run(t, exec.Command(name, args...))
	if out.Code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s%s", name, strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stdout
}

// Eventually waits until something holds, which another process is to bring about.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("it does not happen: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
