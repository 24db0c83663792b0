package buildcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/progress"
	"github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/redact"
)

// inspectFlags are the flags that run a shell, or a command, inside a build.
type inspectFlags struct{ onError, invoke string }

func (f *inspectFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.onError, "on-error", onErrorFail, `What to do when a RUN instruction fails: "fail", or "shell" for a shell in its root filesystem`)
	fl.StringVar(&f.invoke, "invoke", "", "Run a command where a RUN instruction fails, in place of a shell")
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
	command string // "" for a shell
	tty     bool
	shown   bool // the error of the build has been shown
}

// open checks the flags. It returns nil if nothing is to be run.
func (f *inspectFlags) open(app *command.App) (*inspection, error) {
	i := &inspection{app: app, command: f.invoke, tty: command.IsTerminal(app.Stdin) && app.Stderr.IsTerminal()}
	switch {
	case f.onError != onErrorFail && f.onError != onErrorShell:
		return nil, &command.UsageError{Err: fmt.Errorf("invalid value %q for --on-error: use fail or shell", f.onError)}
	case f.onError == onErrorFail && f.invoke == "":
		return nil, nil
	case f.invoke == invokeOnError:
		i.command = ""
	}
	if i.command == "" && !i.tty {
		fmt.Fprintln(app.Stderr, "NOTE: a shell needs a terminal: a step that fails ends the build (--invoke=COMMAND runs a command)")
		return nil, nil
	}
	return i, nil
}

// hasShown reports whether the error of the build has been shown.
func (i *inspection) hasShown() bool { return i != nil && i.shown }

// failed is builder.Options.OnFailure. The result of the command does not change that of the build.
func (i *inspection) failed(ctx context.Context, c *builder.Container, err error) {
	i.display.Finish()
	i.shown = true
	if err := printSources(i.app, err); err != nil {
		return
	}
	fmt.Fprintln(i.app.Stderr, redact.URLs(located(err).Error()))
	step := cmp.Or(position(errdefs.Sources(err)), formatter.Ellipsis(c.Step, maxStep))
	i.announce(c, step)
	if err := i.run(ctx, c, i.app.Stderr.File()); err != nil {
		i.report(err, step)
	}
}

// maxStep is how much of a step's name or of a command a message shows, in runes.
const maxStep = 60

// announce says what follows.
func (i *inspection) announce(c *builder.Container, step string) {
	what, except := "a shell", ""
	if i.command != "" {
		what = formatter.Ellipsis(i.command, maxStep)
	}
	if len(c.Caches) > 0 {
		except = ", except in " + strings.Join(c.Caches, ", ")
	}
	fmt.Fprintf(i.app.Stderr, "Running %s in the failed step (%s). Changes are discarded%s.\n", what, step, except)
}

// run runs the shell or the command. The end of the terminal ends it.
func (i *inspection) run(ctx context.Context, c *builder.Container, stdout io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	cmd := builder.Command{Line: i.command, TTY: i.tty, Stdout: stdout, Stderr: i.app.Stderr.File()}
	if i.tty {
		cmd.Stdin = i.app.Stdin
	}
	return c.Run(ctx, cmd)
}

// report prints how a command has failed. For a shell, a code is that of the last command in it.
func (i *inspection) report(err error, step string) {
	var none *container.NoShellError
	var exit *ociruntime.ExitError
	switch {
	case errors.As(err, &exit) && i.command == "":
	case errors.As(err, &none):
		fmt.Fprintf(i.app.Stderr, "NOTE: %s in the step (%s): run a program of the image by --invoke='[\"/program\"]', or copy a shell into the stage\n", none, step)
	case errors.As(err, &exit):
		fmt.Fprintf(i.app.Stderr, "NOTE: %s: %s\n", formatter.Ellipsis(i.command, maxStep), exit)
	default:
		fmt.Fprintf(i.app.Stderr, "NOTE: no command can be run in the step (%s): %s\n", step, redact.URLs(err.Error()))
	}
}
