//go:build e2e

package commands

import (
	"syscall"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestExplore: the screen follows keys and the size of the terminal, which is as it was at the end, also after a signal.
func TestExplore(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	for name, c := range map[string]struct {
		end  func(c *rig.Console, pid int) error
		code int
	}{
		"q":       {func(c *rig.Console, _ int) error { c.Type("q"); return nil }, 0},
		"SIGTERM": {func(_ *rig.Console, pid int) error { return syscall.Kill(pid, syscall.SIGTERM) }, 143},
	} {
		t.Run(name, func(t *testing.T) {
			console := rig.NewConsole(t)
			before := console.Modes()
			cmd := m.Command("explore", "base")
			cmd.Env = append(cmd.Environ(), "TERM=xterm-256color")
			console.Start(cmd)
			console.Expect("Layers")
			console.Expect("bin")
			console.Type("?")
			console.Expect("regular expression; Esc ends it") // where nothing was: only what changes is drawn
			console.Resize(12, 60)
			console.Expect("Everywhere") // all is drawn again
			if err := c.end(console, cmd.Process.Pid); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit code %d, want %d", got, c.code)
			}
			console.Expect("\x1b[?1049l") // the screen from before
			if after := console.Modes(); after != before {
				t.Errorf("the terminal is left with %+v, and was %+v", after, before)
			}
		})
	}
}
