package servecmd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
)

// run runs the command with a new store, and returns what it prints.
func run(ctx context.Context, t *testing.T, args ...string) (string, error) {
	t.Helper()
	got := commandtest.New(t).RunWith(ctx, strings.NewReader(""), NewServeCommand, args...)
	return got.Stdout, got.Err
}

// TestCommand: a command has a socket that speaks Docker's API, and its exit code is mica's.
func TestCommand(t *testing.T) {
	t.Parallel()
	script := `test -S "${DOCKER_HOST#unix://}" && test "$BUILDKIT_HOST" = "$DOCKER_HOST" && echo "$DOCKER_HOST" && exit 7`
	out, err := run(t.Context(), t, "--", "sh", "-c", script)
	var exit *command.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 {
		t.Fatalf("%v\n%s", err, out)
	}
	socket := strings.TrimPrefix(strings.TrimSpace(out), "unix://")
	if _, err := os.Stat(filepath.Dir(socket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", socket, err)
	}
	if _, err := run(t.Context(), t, "--", filepath.Join(t.TempDir(), "missing")); err == nil || errors.As(err, &exit) && exit.Code == 0 {
		t.Errorf("a missing command: %v", err)
	}
}

func TestCommandEnv(t *testing.T) {
	t.Parallel()
	got := commandEnv([]string{"A=1", "DOCKER_HOST=tcp://x", "DOCKER_CONTEXT=c", "DOCKER_TLS_VERIFY=1", "DOCKER_CONFIG=d", "BUILDX_BUILDER=b"}, "unix:///s")
	want := []string{"A=1", "DOCKER_CONFIG=d", "DOCKER_HOST=unix:///s", "BUILDKIT_HOST=unix:///s", "BUILDX_BUILDER=default"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestServe: the command says where it listens, and ends without an error when it is interrupted.
func TestServe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	address := "unix://" + filepath.Join(t.TempDir(), "s")
	if out, err := run(ctx, t, "--addr", address); err != nil || out != address+"\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"x":                                  `unexpected argument "x": a command follows --`,
		"--tlscert a":                        "--tlscacert, --tlscert and --tlskey need each other",
		"--allow-insecure-entitlement x":     "--allow-insecure-entitlement: ",
		"--addr tcp://127.0.0.1:0":           "--tlscacert",
		"--tlscacert a --tlscert b --tlskey": "flag needs an argument",
		"--tlscacert a --tlscert b --tlskey /nonexistent": "read certificate: ",
	} {
		if _, err := run(t.Context(), t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
