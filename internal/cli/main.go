// Package cli is mica's command line: one file per command, flags in, text out.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/userns"
)

// Main runs mica with os.Args-style arguments and returns the exit code.
func Main(args []string) int {
	sandbox.Init(args)
	userns.Init(args)
	delayCollection()
	ctx, stop := interruptible()
	defer stop()
	app := &App{Stdin: os.Stdin, Stdout: terminal.NewWriter(os.Stdout), Stderr: terminal.NewWriter(os.Stderr), args: args}
	code := app.run(ctx, newRootCommand(app))
	if err := app.Stdout.Flush(); err != nil && code == 0 {
		app.printError(fmt.Errorf("write to stdout: %w", cause(err)))
		code = 1
	}
	_ = app.Stderr.Flush() // there is nowhere left to say it
	return code
}

// run runs the command of the arguments and returns the exit code.
func (a *App) run(ctx context.Context, root *cobra.Command) int {
	root.SetArgs(a.args[1:])
	var cmd *cobra.Command
	err := crash.Guard(func() (err error) {
		cmd, err = root.ExecuteContextC(ctx)
		return err
	})()
	if cmd == nil {
		cmd, _, _ = root.Find(a.args[1:])
	}
	code := a.exitCode(ctx, cmd, err)
	if err := crash.Guard(func() error { a.tidy(); return nil })(); err != nil && code == 0 {
		code = a.exitCode(ctx, cmd, err)
	}
	return code
}

// cause is what went wrong with a file, without the file's name.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// interrupted is the cause of a context that a signal has ended.
type interrupted struct{ sig syscall.Signal }

func (i interrupted) Error() string { return "canceled" }

// Is makes errors.Is(err, context.Canceled) true.
func (i interrupted) Is(target error) bool { return target == context.Canceled }

// interruptible is a context that SIGINT and SIGTERM end. A second signal ends mica at once.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		sig := <-ch
		s, _ := sig.(syscall.Signal)
		cancel(interrupted{s})
		<-ch
		os.Exit(128 + int(s))
	}()
	return ctx, func() { cancel(nil) }
}

// exitCode prints an error once and gives the code for it.
func (a *App) exitCode(ctx context.Context, cmd *cobra.Command, err error) int {
	var exit *exitError
	var usage *usageError
	var sig interrupted
	var fault *crash.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &fault):
		a.printFault(err, fault)
		if cmd != nil && cmd.Name() == "run" {
			return 125 // as docker's: any other is the container's
		}
		return 2
	case errors.As(err, &exit):
		if exit.err != nil {
			a.printError(exit.err)
		}
		return exit.code
	case errors.As(err, &usage):
		fmt.Fprintf(a.Stderr, "%s\nSee '%s --help'.\n", redact.URLs(err.Error()), cmd.CommandPath())
		return 125
	case errors.As(context.Cause(ctx), &sig):
		a.printError(err)
		return 128 + int(sig.sig)
	}
	a.printError(err)
	return 1
}

// requireArgs checks the number of arguments, in docker's words. most < 0 is any number.
func requireArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		return verbatim{fmt.Errorf("\"%s\" %s.\nSee '%s --help'.\n\nUsage:  %s\n\n%s",
			cmd.CommandPath(), requirement(least, most, len(args)), cmd.CommandPath(), cmd.UseLine(), cmd.Short)}
	}
}

// requirement says how many arguments a command takes that got n.
func requirement(least, most, n int) string {
	how, want := "exactly", least
	switch {
	case least == 0 && most == 0:
		return "accepts no arguments"
	case most < 0 || most > least && n < least:
		how = "at least"
	case most > least:
		how, want = "at most", most
	}
	noun := "arguments"
	if want == 1 {
		noun = "argument"
	}
	return fmt.Sprintf("requires %s %d %s", how, want, noun)
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(s any) bool {
	f, ok := s.(*os.File)
	if !ok {
		return false
	}
	return term.IsTerminal(int(f.Fd()))
}
