// Package cli is mica's command line: one file per command, flags in, text out.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
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

// exitError ends mica with a code of its own. Err may be nil: then everything was said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// usageError is a mistake in the flags, which docker ends with 125.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

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

// printFault prints what only a fault of mica's can be.
func (a *App) printFault(err error, fault *crash.Error) {
	hint := "MICA_DEBUG=1 shows where it is"
	if os.Getenv("MICA_DEBUG") != "" {
		fmt.Fprintf(a.Stderr, "%s\n", fault.Stack)
		hint = "the lines above say where it is"
	}
	text := strings.Join(strings.Fields(redact.URLs(err.Error())), " ")
	if !strings.Contains(text, "internal error: ") {
		text = "internal error: " + text
	}
	fmt.Fprintf(a.Stderr, "mica: %s; please report this fault (%s)\n", text, hint)
}

// printError prints an error as docker does, without its "response from daemon". A build's begins with ERROR.
func (a *App) printError(err error) {
	text := redact.URLs(err.Error())
	for _, known := range []string{"Error: ", "ERROR: ", "Error parsing reference: ", "template parsing error: ", `"mica`, "mica: "} {
		if strings.HasPrefix(text, known) {
			fmt.Fprintln(a.Stderr, text)
			return
		}
	}
	if strings.HasPrefix(text, "failed to build: ") {
		fmt.Fprintln(a.Stderr, "ERROR: "+text)
		return
	}
	fmt.Fprintln(a.Stderr, "Error: "+text)
}

// requireArgs checks the number of arguments, in docker's words. most < 0 is any number.
func requireArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		how, n := "exactly", least
		switch {
		case least == 0 && most == 0:
			return fmt.Errorf("\"%s\" accepts no arguments.\nSee '%s --help'.\n\nUsage:  %s\n\n%s",
				cmd.CommandPath(), cmd.CommandPath(), cmd.UseLine(), cmd.Short)
		case most < 0 || (most > least && len(args) < least):
			how = "at least"
		case most > least:
			how, n = "at most", most
		}
		noun := "arguments"
		if n == 1 {
			noun = "argument"
		}
		return fmt.Errorf("\"%s\" requires %s %d %s.\nSee '%s --help'.\n\nUsage:  %s\n\n%s",
			cmd.CommandPath(), how, n, noun, cmd.CommandPath(), cmd.UseLine(), cmd.Short)
	}
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(s any) bool {
	f, ok := s.(*os.File)
	if !ok {
		return false
	}
	return term.IsTerminal(int(f.Fd()))
}
