package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/crash"
)

// runFaulty runs a command that does what fault does, and returns what mica says.
func runFaulty(t *testing.T, fault func() error, args ...string) (code int, stderr string) {
	t.Helper()
	return runCommand(t.Context(), t, func(*command.App) *cobra.Command {
		root := &cobra.Command{Use: "mica", SilenceUsage: true, SilenceErrors: true}
		for _, name := range []string{"run", "pull"} {
			root.AddCommand(&cobra.Command{Use: name, RunE: func(*cobra.Command, []string) error { return fault() }})
		}
		return root
	}, args...)
}

func TestPanicIsOneLine(t *testing.T) {
	t.Setenv("MICA_DEBUG", "")
	var none []string
	overrun := func() error { return fmt.Errorf("%s", none[3]) }
	in := func() error { return fmt.Errorf("pull x: layer y: %w", crash.Guard(overrun)()) }
	const reason = "runtime error: index out of range [3] with length 0; please report this fault (MICA_DEBUG=1 shows where it is)\n"
	for _, c := range []struct {
		fault func() error
		args  []string
		code  int
		said  string
	}{
		{overrun, []string{"pull"}, 2, "mica: internal error: " + reason},
		{overrun, []string{"run"}, 125, "mica: internal error: " + reason},
		{in, []string{"pull"}, 2, "mica: pull x: layer y: internal error: " + reason},
		{func() error { panic("of two\nlines, with https://user:pw@host/") }, []string{"pull"}, 2,
			"mica: internal error: of two lines, with https://xxxxx:xxxxx@host/; please report this fault (MICA_DEBUG=1 shows where it is)\n"},
	} {
		if code, said := runFaulty(t, c.fault, c.args...); code != c.code || said != c.said {
			t.Errorf("exit code %d: %q, want %d: %q", code, said, c.code, c.said)
		}
	}
	t.Setenv("MICA_DEBUG", "1")
	if _, said := runFaulty(t, overrun, "pull"); !strings.Contains(said, "goroutine ") || !strings.Contains(said, "main_test.go:") {
		t.Errorf("with MICA_DEBUG: %q", said)
	}
}
