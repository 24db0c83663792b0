package buildcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/progress"
	"github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/terminal"
)

// inspectFlags are the flags that run a shell, or a command, inside a build.
type inspectFlags struct{ onError, invoke, at string }

func (f *inspectFlags) add(fl *pflag.FlagSet) {
	f.addFailure(fl)
	fl.StringVar(&f.at, "shell-at", "", "Run a shell before the instruction at a line of the Dockerfile, or at the end of a stage, and end the build")
	fl.Lookup("invoke").Usage = "Run a command where an instruction fails, or at --shell-at, in place of a shell"
}

// addFailure adds the flags for a step that fails.
func (f *inspectFlags) addFailure(fl *pflag.FlagSet) {
	fl.StringVar(&f.onError, "on-error", onErrorFail, `What to do when an instruction fails: "fail", or "shell" for a shell in its root filesystem`)
	fl.StringVar(&f.invoke, "invoke", "", "Run a command where an instruction fails, in place of a shell")
}

// The values of --on-error, and that of buildx's --invoke for a shell.
const (
	onErrorFail   = "fail"
	onErrorShell  = "shell"
	invokeOnError = "on-error"
)

// inspection runs a shell, or a command, in a container of a build.
type inspection struct {
	app     *command.App
	display *progress.Build
	at      string // a line or a stage, "" for a step that fails
	command string // "" for a shell
	stdout  *terminal.Writer
	tty     bool
	// onFailure is set if a step that fails is to be looked into.
	onFailure bool
	shown     bool // the error of the build has been shown
	ran       bool // the build has ended with the command
}

// open checks the flags. It returns nil if nothing is to be run.
func (f *inspectFlags) open(app *command.App) (*inspection, error) {
	stdout := app.Stderr // the output of a step
	if f.at != "" {
		stdout = app.Stdout // the result of the build
	}
	i := &inspection{app: app, at: f.at, command: f.invoke, stdout: stdout, tty: command.IsTerminal(app.Stdin) && stdout.IsTerminal()}
	i.onFailure = f.onError == onErrorShell || f.invoke == invokeOnError || f.at == ""
	switch {
	case f.onError != onErrorFail && f.onError != onErrorShell:
		return nil, &command.UsageError{Err: fmt.Errorf("invalid value %q for --on-error: use fail or shell", f.onError)}
	case f.onError == onErrorFail && f.invoke == "" && f.at == "":
		return nil, nil
	case f.invoke == invokeOnError:
		i.command = ""
	}
	switch {
	case i.command != "" || i.tty:
		return i, nil
	case f.at != "":
		return nil, &command.UsageError{Err: errors.New("--shell-at needs a terminal: --invoke=COMMAND runs a command without one")}
	}
	fmt.Fprintln(app.Stderr, "NOTE: a shell needs a terminal: a step that fails ends the build (--invoke=COMMAND runs a command)")
	return nil, nil
}

// apply asks the build for the containers.
func (i *inspection) apply(o *builder.Options, display *progress.Build) {
	if i == nil {
		return
	}
	i.display = display
	o.At, o.Inspect = i.at, i.reached
	if i.onFailure {
		o.OnFailure = i.failed
	}
}

// hasShown reports whether the error of the build has been shown.
func (i *inspection) hasShown() bool { return i != nil && i.shown }

// hasRun reports whether the result of the command is that of the build.
func (i *inspection) hasRun() bool { return i != nil && i.ran }

// failed is builder.Options.OnFailure. The result of the command does not change that of the build.
func (i *inspection) failed(ctx context.Context, c *builder.Container, err error) {
	i.display.Finish()
	i.shown = true
	if err := printSources(i.app, err); err != nil {
		return
	}
	fmt.Fprintln(i.app.Stderr, redact.URLs(builder.Located(err).Error()))
	step := cmp.Or(builder.Position(err), formatter.Ellipsis(c.Step, maxStep))
	where := "in the failed step (" + step + ")"
	if c.Before {
		where = "before the failed step (" + step + ")"
	}
	i.announce(c, where)
	if err := i.run(ctx, c); err != nil {
		i.report(err, where)
	}
}

// reached is builder.Options.Inspect. The exit code of the command is mica's.
func (i *inspection) reached(ctx context.Context, c *builder.Container) error {
	i.display.Finish()
	i.ran = true
	where := "at the end of stage " + i.at
	if _, err := strconv.Atoi(i.at); err == nil {
		where = "before line " + i.at
	}
	if i.tty {
		i.announce(c, where)
	}
	err := i.run(ctx, c)
	var exit *ociruntime.ExitError
	switch {
	case errors.As(err, &exit):
		return &command.ExitError{Code: exit.Code}
	case err != nil && ctx.Err() == nil:
		i.report(err, where)
		return &command.ExitError{Code: 1}
	}
	return err
}

// maxStep is how much of a step's name or of a command a message shows, in runes.
const maxStep = 60

// announce says what follows.
func (i *inspection) announce(c *builder.Container, where string) {
	what, except := "a shell", ""
	if i.command != "" {
		what = i.line()
	}
	if len(c.Caches) > 0 {
		except = ", except in " + strings.Join(c.Caches, ", ")
	}
	fmt.Fprintf(i.app.Stderr, "Running %s %s. Changes are discarded%s.\n", what, where, except)
}

// line is the command in one line.
func (i *inspection) line() string {
	return formatter.Ellipsis(strings.Join(strings.Fields(i.command), " "), maxStep)
}

// run runs the shell or the command. The end of the terminal ends it. The error is context.Canceled if a signal has ended it.
func (i *inspection) run(ctx context.Context, c *builder.Container) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	cmd := builder.Command{Line: i.command, TTY: i.tty, Stdout: i.stdout.File(), Stderr: i.app.Stderr.File()}
	if i.tty {
		cmd.Stdin = i.app.Stdin
	}
	err := c.Run(ctx, cmd)
	if ctx.Err() != nil {
		return context.Canceled
	}
	return err
}

// report prints how a command has failed. For a shell, a code is that of the last command in it.
func (i *inspection) report(err error, where string) {
	var none *container.NoShellError
	var exit *ociruntime.ExitError
	switch {
	case errors.As(err, &exit) && i.command == "", errors.Is(err, context.Canceled):
	case errors.As(err, &none):
		fmt.Fprintf(i.app.Stderr, "NOTE: %s %s: run a program of the image by --invoke='[\"/program\"]', or copy a shell into the stage\n", none, where)
	case errors.As(err, &exit):
		fmt.Fprintf(i.app.Stderr, "NOTE: %s: %s\n", i.line(), exit)
	default:
		fmt.Fprintf(i.app.Stderr, "NOTE: no command can be run %s: %s\n", where, redact.URLs(err.Error()))
	}
}
