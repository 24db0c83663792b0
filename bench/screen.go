//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"

	"github.com/micabuild/mica/internal/terminal/terminaltest"
)

// screenMode is the first argument of a bench that runs a command on a terminal until that shows a text, and kills it then.
const screenMode = "-screen"

// untilShown is a command on a terminal, for a row, that ends when the terminal shows a text.
func untilShown(text string, cmd *exec.Cmd) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	until := exec.Command(self, append([]string{screenMode, text}, cmd.Args...)...)
	until.Env = append(cmd.Environ(), "TERM=xterm-256color")
	return until, nil
}

// runOnScreen is the process of untilShown.
func runOnScreen(text string, command []string) error {
	keeper, terminal, err := terminaltest.New()
	if err != nil {
		return err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = terminal.Close()
	var all bytes.Buffer
	part := make([]byte, 64<<10)
	for !bytes.Contains(all.Bytes(), []byte(text)) {
		n, err := keeper.Read(part)
		all.Write(part[:n])
		if err != nil {
			return fmt.Errorf("%s did not show %q: %w\n%s", command[0], text, err, all.Bytes())
		}
	}
	err = cmd.Process.Kill()
	_ = cmd.Wait()
	return err
}
