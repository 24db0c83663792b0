package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/spf13/pflag"

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
	const usage = "--shell-at needs a terminal: --invoke=COMMAND runs a command without one"
	for name, c := range map[string]struct {
		flags    inspectFlags
		terminal bool
		want     string // command, place, terminal, failures
		stderr   string
		err      string
	}{
		"nothing":                {inspectFlags{onError: "fail"}, true, "", "", ""},
		"a shell":                {inspectFlags{onError: "shell"}, true, `"" "" true true`, "", ""},
		"a shell, no terminal":   {inspectFlags{onError: "shell"}, false, "", note, ""},
		"a command":              {inspectFlags{onError: "fail", invoke: "ls"}, true, `"ls" "" true true`, "", ""},
		"a command, no terminal": {inspectFlags{onError: "fail", invoke: "ls"}, false, `"ls" "" false true`, "", ""},
		"both":                   {inspectFlags{onError: "shell", invoke: "ls"}, false, `"ls" "" false true`, "", ""},
		"as buildx":              {inspectFlags{onError: "fail", invoke: "on-error"}, true, `"" "" true true`, "", ""},
		"as buildx, no terminal": {inspectFlags{onError: "fail", invoke: "on-error"}, false, "", note, ""},
		"a place":                {inspectFlags{onError: "fail", at: "3"}, true, `"" "3" true false`, "", ""},
		"a place, a failure":     {inspectFlags{onError: "shell", at: "3"}, true, `"" "3" true true`, "", ""},
		"a place, as buildx":     {inspectFlags{onError: "fail", at: "3", invoke: "on-error"}, true, `"" "3" true true`, "", ""},
		"a place, no terminal":   {inspectFlags{onError: "fail", at: "3"}, false, "", "", usage},
		"a place, a command":     {inspectFlags{onError: "fail", at: "3", invoke: "ls"}, false, `"ls" "3" false false`, "", ""},
		"an unknown value":       {inspectFlags{onError: "ask"}, true, "", "", `invalid value "ask" for --on-error: use fail or shell`},
		"an empty value":         {inspectFlags{}, true, "", "", `invalid value "" for --on-error: use fail or shell`},
	} {
		stderr, said := commandtest.Output(t)
		app := &command.App{Stdout: stderr, Stderr: stderr, Stdin: strings.NewReader("")}
		if c.terminal {
			_, tty := terminaltest.Open(t)
			app.Stdin, app.Stdout, app.Stderr = tty, terminal.NewWriter(tty), terminal.NewWriter(tty)
		}
		i, err := c.flags.open(app)
		got := ""
		if i != nil {
			got = fmt.Sprintf("%q %q %v %v", i.command, i.at, i.tty, i.onFailure)
		}
		if commandtest.Text(err) != c.err || said() != c.stderr || got != c.want {
			t.Errorf("%s: %s, want %s, %v, %q", name, got, c.want, err, said())
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
		"several lines":      {"ls\n  -l", nil, &ociruntime.ExitError{Code: 3}, "NOTE: ls -l: exit code: 3\n"},
		"a signal":           {"ls -l", nil, context.Canceled, ""},
		"a code of a shell":  {"", nil, &ociruntime.ExitError{Code: 3}, ""},
		"a code":             {"ls -l", nil, &ociruntime.ExitError{Code: 3}, "NOTE: ls -l: exit code: 3\n"},
		"no shell":           {"", nil, &container.NoShellError{Tried: "/bin/sh"}, "NOTE: there is no shell (/bin/sh) in the failed step (Dockerfile:2): run a program of the image by --invoke='[\"/program\"]', or copy a shell into the stage\n"},
		"no program":         {`["/a"]`, nil, &ociruntime.StartError{Code: 127, Reason: "not found"}, "NOTE: no command can be run in the failed step (Dockerfile:2): not found\n"},
		"an error with URLs": {"", nil, errors.New("https://ann:pw@h/x"), "NOTE: no command can be run in the failed step (Dockerfile:2): https://xxxxx:xxxxx@h/x\n"},
	} {
		stderr, said := commandtest.Output(t)
		i := &inspection{app: &command.App{Stderr: stderr}, command: c.command}
		if c.err == nil {
			i.announce(&builder.Container{Caches: c.caches}, "in the failed step (Dockerfile:2)")
		} else {
			i.report(c.err, "in the failed step (Dockerfile:2)")
		}
		if said() != c.want {
			t.Errorf("%s: %q, want %q", name, said(), c.want)
		}
	}
}

// failedAt is the error of a recorded build that has failed at a line.
func failedAt(line int32, ref string, err error) error {
	src := &errdefs.Source{Info: &pb.SourceInfo{Filename: "Dockerfile", Data: []byte("FROM a AS one\nCOPY x /\nFROM b\nCOPY --from=one x /\n")}, Ranges: []*pb.Range{{Start: &pb.Position{Line: line}}}}
	return &builder.FailedError{Ref: ref, Err: errdefs.WithSource(err, src)}
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
		"a store":          {"mica --root build build .", "To look into it: mica --root build build --on-error=shell . (before the step: mica --root build run abcdefgh:7)\n", failedAt(7, "abcdefghijkl", exit)},
		"a store, last":    {"mica build --root=/x .", "To look into it: mica --root /x build --on-error=shell .\n", exit},
		"an odd store":     {"mica --root $x build .", "To look into it: mica --root … build --on-error=shell .\n", exit},
		"a subcommand":     {"mica image build build", "To look into it: mica build --on-error=shell build\n", exit},
		"credentials":      {"mica build https://ann:pw@h/x.git", "To look into it: mica build --on-error=shell …\n", exit},
		"a Dockerfile":     {"mica build -", "To look into it: mica build --invoke=COMMAND -\n", exit},
		"from stdin":       {"mica build -f- .", "To look into stage one: mica build --shell-at=one --invoke=COMMAND -f- .\n", failedAt(4, "abc", os.ErrNotExist)},
		"an alias":         {"mica b .", "To look into it: mica build --on-error=shell …\n", exit},
		"an argument":      {"mica build --build-arg=TOKEN=x .", "To look into it: mica build --on-error=shell …\n", exit},
		"special":          {"mica build $x", "To look into it: mica build --on-error=shell …\n", exit},
		"long":             {"mica build " + strings.Repeat("x", 61), "To look into it: mica build --on-error=shell …\n", exit},
		"it did not start": {"mica build .", "To look into it: mica build --on-error=shell .\n", &ociruntime.StartError{Code: 127}},
		"no process":       {"mica build .", "", os.ErrNotExist},
		"no arguments":     {"mica build", "To look into it: mica build --on-error=shell\n", exit},
		"of a stage":       {"mica build .", "To look into stage one: mica build --shell-at=one .\n", failedAt(4, "abc", os.ErrNotExist)},
		"of no stage":      {"mica build .", "", failedAt(2, "abc", os.ErrNotExist)},
		"a recorded build": {"mica build .", "To look into it: mica build --on-error=shell . (before the step: mica run abcdefgh:7)\n", failedAt(7, "abcdefghijkl", exit)},
		"a short ref":      {"mica build .", "To look into it: mica build --on-error=shell . (before the step: mica run abc:7)\n", failedAt(7, "abc", exit)},
		"no line":          {"mica build .", "To look into it: mica build --on-error=shell .\n", failedAt(0, "abcdefghijkl", exit)},
	} {
		stderr, said := commandtest.Output(t)
		app := &command.App{Stderr: stderr, Args: strings.Fields(c.args)}
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.ParseErrorsAllowlist.UnknownFlags = true
		app.AddFlags(flags)
		if err := flags.Parse(app.Args); err != nil {
			t.Fatal(err)
		}
		printHint(app, "build", c.err)
		if said() != c.want {
			t.Errorf("%s: %q, want %q", name, said(), c.want)
		}
	}
}

// TestModes: two flags of which each replaces the build exclude each other.
func TestModes(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	for args, want := range map[string]string{
		"--explain --check DIR":                      "--explain cannot be used with --call or --check",
		"--explain --shell-at 2 --invoke ls DIR":     "--shell-at cannot be used with --explain",
		"--call outline --shell-at 2 --invoke x DIR": "--shell-at cannot be used with --call or --check",
	} {
		got := p.run(t, NewBuildCommand, args)
		var usage *command.UsageError
		if commandtest.Text(got.Err) != want || !errors.As(got.Err, &usage) {
			t.Errorf("%s: %v", args, got.Err)
		}
	}
	got := p.run(t, NewBuildCommand, "--shell-at 99 --invoke ls DIR")
	if want := "failed to build: failed to solve: there is no step at line 99 of the Dockerfile: its instructions are at lines 2-7"; commandtest.Text(got.Err) != want {
		t.Errorf("%v, want %s", got.Err, want)
	}
}

// TestBakeInspection: the first target that fails is looked into, when the others have ended; its error is that of bake.
func TestBakeInspection(t *testing.T) {
	t.Parallel()
	b := newBakeInspection(&inspection{}, nil, map[string]*bakeTarget{"one": nil, "two": nil, "three": nil})
	looked := make(chan error, 3)
	b.look = func(ctx context.Context, _ *builder.Container, err error) {
		if ctx.Err() != nil {
			t.Error("it is looked into with a context that has ended")
		}
		looked <- err
	}
	ctx, stop := b.stoppable(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for _, name := range []string{"one", "two"} {
		wg.Go(func() {
			defer b.ended(name)
			b.onFailure(name)(ctx, nil, errors.New("failed"))
		})
	}
	wg.Go(func() {
		defer b.ended("three")
		<-ctx.Done()
	})
	wg.Wait()
	if err := b.failure(context.Canceled); len(looked) != 1 || err.Error() != (<-looked).Error() || !strings.HasPrefix(err.Error(), "target ") {
		t.Errorf("%v", err)
	}
}

// TestNoBakeInspection: without one, targets fail as ever.
func TestNoBakeInspection(t *testing.T) {
	t.Parallel()
	b := newBakeInspection(nil, nil, nil)
	ctx, stop := b.stoppable(t.Context())
	stop()
	b.ended("x")
	if ctx.Err() != nil || b.onFailure("x") != nil || !errors.Is(b.failure(os.ErrNotExist), os.ErrNotExist) {
		t.Error("it does something")
	}
}
