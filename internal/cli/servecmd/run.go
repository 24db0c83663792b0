package servecmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/micabuild/mica/internal/cli/command"
)

// private makes a directory for the socket of one command, and returns the socket's address.
func private() (address string, remove func() error, err error) {
	dir, err := os.MkdirTemp("", "mica-serve-")
	if err != nil {
		return "", nil, err
	}
	return "unix://" + filepath.Join(dir, "mica.sock"), func() error { return os.RemoveAll(dir) }, nil
}

// commandEnv is the environment of a command that uses a socket. What would name another server is removed: docker's context, buildx's
// builder.
func commandEnv(env []string, address string) []string {
	set := map[string]string{"DOCKER_HOST": address, "BUILDKIT_HOST": address, "BUILDX_BUILDER": "default"}
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return set[name] != "" || slices.Contains([]string{"DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"}, name)
	})
	for _, name := range []string{"DOCKER_HOST", "BUILDKIT_HOST", "BUILDX_BUILDER"} {
		env = append(env, name+"="+set[name])
	}
	return env
}

// stopTime is how long a command has to end after mica was interrupted.
const stopTime = 10 * time.Second

// runCommand runs a command that uses the socket, and returns its exit code as an error.
func runCommand(ctx context.Context, app *command.App, args []string, address string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = commandEnv(os.Environ(), address)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, app.Stdout.File(), app.Stderr.File()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code := exit.ExitCode()
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
			code = 128 + int(st.Signal())
		}
		return &command.ExitError{Code: code}
	case err != nil:
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	return nil
}
