package rig

import (
	"bytes"
	"io"
	"os/exec"
	"testing"

	"github.com/micabuild/mica/internal/terminal/terminaltest"
)

// OnTerminal runs a command whose stdout and stderr are a terminal, of 80 columns, and returns what that is told to show, and
// the exit code.
func OnTerminal(t testing.TB, cmd *exec.Cmd) (string, int) {
	t.Helper()
	keeper, terminal := terminaltest.Open(t)
	defer func() { _ = keeper.Close() }()
	cmd.Stdout, cmd.Stderr = terminal, terminal
	err := cmd.Start()
	_ = terminal.Close()
	if err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	_, _ = io.Copy(&shown, keeper) // ends with EIO, when no process has the terminal any more
	_ = cmd.Wait()
	return shown.String(), cmd.ProcessState.ExitCode()
}
