// Package cli is mica's command line: it registers the commands, runs one, and prints its error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/kanikocmd"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/memory"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/userns"
)

// Main runs mica with os.Args-style arguments and returns the exit code.
func Main(args []string) int {
	sandbox.Init(args)
	userns.Init(args)
	memory.DelayCollection()
	args = kanikocmd.Args(args)
	ctx, stop := interruptible()
	defer stop()
	app := &command.App{Stdin: os.Stdin, Stdout: terminal.NewWriter(os.Stdout), Stderr: terminal.NewWriter(os.Stderr), Args: args}
	code := run(ctx, app, newRootCommand(app))
	if err := app.Flush(); err != nil && code == 0 {
		app.PrintError(err)
		code = 1
	}
	_ = app.Stderr.Flush() // there is nowhere left to say it
	return code
}

// run runs the command of the arguments and returns the exit code.
func run(ctx context.Context, app *command.App, root *cobra.Command) int {
	root.SetArgs(app.Args[1:])
	var cmd *cobra.Command
	err := crash.Guard(func() (err error) {
		cmd, err = root.ExecuteContextC(ctx)
		return err
	})()
	if cmd == nil {
		cmd, _, _ = root.Find(app.Args[1:])
	}
	code := exitCode(ctx, app, cmd, err)
	if err := crash.Guard(func() error { app.Tidy(); return nil })(); err != nil && code == 0 {
		code = exitCode(ctx, app, cmd, err)
	}
	return code
}

// interrupted is the cause of a context that a signal has ended.
type interrupted struct{ sig syscall.Signal }

func (i interrupted) Error() string { return "canceled" }

// Is makes errors.Is(err, context.Canceled) true.
func (i interrupted) Is(target error) bool { return target == context.Canceled }

// together is how close signals are that are one: timeout(1) sends its signal to mica, and then to the process group that mica is in.
const together = 100 * time.Millisecond

// interruptible is a context that SIGINT and SIGTERM end. A second signal ends mica at once.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		sig := <-ch
		s, _ := sig.(syscall.Signal)
		begun := time.Now()
		cancel(interrupted{s})
		for range ch {
			if time.Since(begun) >= together {
				os.Exit(128 + int(s))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		cancel(nil)
	}
}

// exitCode prints an error once and gives the code for it.
func exitCode(ctx context.Context, app *command.App, cmd *cobra.Command, err error) int {
	var exit *command.ExitError
	var usage *command.UsageError
	var sig interrupted
	var fault *crash.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &fault):
		printFault(app, err, fault)
		if cmd != nil && cmd.Name() == "run" {
			return 125 // as docker's: any other is the container's
		}
		return 2
	case errors.As(err, &exit):
		if exit.Err != nil {
			app.PrintError(exit.Err)
		}
		return exit.Code
	case errors.As(err, &usage):
		fmt.Fprintln(app.Stderr, redact.URLs(err.Error())+command.Usage(cmd))
		return 125
	case errors.As(context.Cause(ctx), &sig):
		app.PrintError(err)
		return 128 + int(sig.sig)
	}
	app.PrintError(err)
	return 1
}

// printFault prints an error that is a fault of mica.
func printFault(app *command.App, err error, fault *crash.Error) {
	hint := "MICA_DEBUG=1 shows where it is"
	if os.Getenv("MICA_DEBUG") != "" {
		fmt.Fprintf(app.Stderr, "%s\n", fault.Stack)
		hint = "the lines above say where it is"
	}
	text := strings.Join(strings.Fields(redact.URLs(err.Error())), " ")
	if !strings.Contains(text, "internal error: ") {
		text = "internal error: " + text
	}
	fmt.Fprintf(app.Stderr, "mica: %s; please report this fault (%s)\n", text, hint)
}
