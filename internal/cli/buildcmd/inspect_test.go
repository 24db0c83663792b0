package buildcmd

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/terminal/terminaltest"
)

// TestInspectFlags: a shell needs a terminal, a command does not.
func TestInspectFlags(t *testing.T) {
	t.Parallel()
	const note = "NOTE: a shell needs a terminal: a step that fails ends the build (--invoke=COMMAND runs a command)\n"
	for name, c := range map[string]struct {
		flags    inspectFlags
		terminal bool
		want     *inspection // command and tty
		stderr   string
		err      string
	}{
		"nothing":                 {inspectFlags{"fail", ""}, true, nil, "", ""},
		"a shell":                 {inspectFlags{"shell", ""}, true, &inspection{tty: true}, "", ""},
		"a shell, no terminal":    {inspectFlags{"shell", ""}, false, nil, note, ""},
		"a command":               {inspectFlags{"fail", "ls"}, true, &inspection{command: "ls", tty: true}, "", ""},
		"a command, no terminal":  {inspectFlags{"fail", "ls"}, false, &inspection{command: "ls"}, "", ""},
		"both":                    {inspectFlags{"shell", "ls"}, false, &inspection{command: "ls"}, "", ""},
		"as buildx":               {inspectFlags{"fail", "on-error"}, true, &inspection{tty: true}, "", ""},
		"as buildx, no terminal":  {inspectFlags{"fail", "on-error"}, false, nil, note, ""},
		"an unknown value":        {inspectFlags{"ask", ""}, true, nil, "", `invalid value "ask" for --on-error: use fail or shell`},
		"an empty value":          {inspectFlags{"", ""}, true, nil, "", `invalid value "" for --on-error: use fail or shell`},
		"an unknown value, shell": {inspectFlags{"ask", "on-error"}, false, nil, "", `invalid value "ask" for --on-error: use fail or shell`},
	} {
		stderr, said := commandtest.Output(t)
		app := &command.App{Stderr: stderr, Stdin: strings.NewReader("")}
		if c.terminal {
			_, tty := terminaltest.Open(t)
			app.Stdin, app.Stderr = tty, terminal.NewWriter(tty)
		}
		got, err := c.flags.open(app)
		if commandtest.Text(err) != c.err || said() != c.stderr || (got == nil) != (c.want == nil) {
			t.Errorf("%s: %+v, %v, %q", name, got, err, said())
			continue
		}
		if got != nil && (got.command != c.want.command || got.tty != c.want.tty) {
			t.Errorf("%s: %q, terminal %v", name, got.command, got.tty)
		}
		var usage *command.UsageError
		if err != nil && !errors.As(err, &usage) {
			t.Errorf("%s: %T", name, err)
		}
	}
}

func TestInspectionMessages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		command string
		caches  []string
		err     error
		want    string
	}{
		"a shell":            {"", nil, nil, "Running a shell in the failed step (Dockerfile:2). Changes are discarded.\n"},
		"caches":             {"", []string{"/a", "/b"}, nil, "Running a shell in the failed step (Dockerfile:2). Changes are discarded, except in /a, /b.\n"},
		"a command":          {"ls -l", nil, nil, "Running ls -l in the failed step (Dockerfile:2). Changes are discarded.\n"},
		"a code of a shell":  {"", nil, &ociruntime.ExitError{Code: 3}, ""},
		"a code":             {"ls -l", nil, &ociruntime.ExitError{Code: 3}, "NOTE: ls -l: exit code: 3\n"},
		"no shell":           {"", nil, &container.NoShellError{Tried: "/bin/sh"}, "NOTE: there is no shell (/bin/sh) in the step (Dockerfile:2): run a program of the image by --invoke='[\"/program\"]', or copy a shell into the stage\n"},
		"no program":         {`["/a"]`, nil, &ociruntime.StartError{Code: 127, Reason: "not found"}, "NOTE: no command can be run in the step (Dockerfile:2): not found\n"},
		"an error with URLs": {"", nil, errors.New("https://ann:pw@h/x"), "NOTE: no command can be run in the step (Dockerfile:2): https://xxxxx:xxxxx@h/x\n"},
	} {
		stderr, said := commandtest.Output(t)
		i := &inspection{app: &command.App{Stderr: stderr}, command: c.command}
		if c.err == nil {
			i.announce(&builder.Container{Caches: c.caches}, "Dockerfile:2")
		} else {
			i.report(c.err, "Dockerfile:2")
		}
		if said() != c.want {
			t.Errorf("%s: %q, want %q", name, said(), c.want)
		}
	}
}

// TestHint: the command line that a failed build proposes leaves out what is long or may be secret.
func TestHint(t *testing.T) {
	t.Parallel()
	exit := &ociruntime.ExitError{Code: 1}
	for name, c := range map[string]struct {
		args, want string
		err        error
	}{
		"short":            {"mica build .", "To look into it: mica build --on-error=shell .\n", exit},
		"flags":            {"mica build -t web --target=a .", "To look into it: mica build --on-error=shell -t web --target=a .\n", exit},
		"a global flag":    {"mica --root x build .", "To look into it: mica build --on-error=shell .\n", exit},
		"an alias":         {"mica b .", "To look into it: mica build --on-error=shell …\n", exit},
		"an argument":      {"mica build --build-arg=TOKEN=x .", "To look into it: mica build --on-error=shell …\n", exit},
		"special":          {"mica build $x", "To look into it: mica build --on-error=shell …\n", exit},
		"long":             {"mica build " + strings.Repeat("x", 61), "To look into it: mica build --on-error=shell …\n", exit},
		"it did not start": {"mica build .", "To look into it: mica build --on-error=shell .\n", &ociruntime.StartError{Code: 127}},
		"no process":       {"mica build .", "", os.ErrNotExist},
	} {
		stderr, said := commandtest.Output(t)
		printHint(&command.App{Stderr: stderr, Args: strings.Fields(c.args)}, "build", c.err)
		if said() != c.want {
			t.Errorf("%s: %q, want %q", name, said(), c.want)
		}
	}
}
