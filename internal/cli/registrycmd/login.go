package registrycmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/micabuild/mica/internal/cli/command"
)

type loginFlags struct {
	user, password string
	stdin          bool
}

// NewLoginCommand is `mica login`.
func NewLoginCommand(app *command.App) *cobra.Command {
	var f loginFlags
	cmd := &cobra.Command{
		Use:   "login [OPTIONS] [SERVER]",
		Short: "Authenticate to a registry",
		Args:  command.RequireArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLogin(cmd.Context(), app, &f, server(args), cmd.Flags().Changed("password"))
		},
	}
	cmd.Flags().StringVarP(&f.user, "username", "u", "", "Username")
	cmd.Flags().StringVarP(&f.password, "password", "p", "", "Password or Personal Access Token (PAT)")
	cmd.Flags().BoolVar(&f.stdin, "password-stdin", false, "Take the password from stdin")
	return cmd
}

// server is the registry that was named: its host, Docker Hub without one.
func server(args []string) string {
	if len(args) == 0 {
		return "docker.io"
	}
	host := strings.TrimPrefix(strings.TrimPrefix(args[0], "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}

func runLogin(ctx context.Context, app *command.App, f *loginFlags, host string, givenPassword bool) error {
	c := app.Registry()
	switch {
	case f.stdin && givenPassword:
		return errors.New("--password and --password-stdin are mutually exclusive")
	case f.stdin && f.user == "":
		return errors.New("Must provide --username with --password-stdin") //nolint:staticcheck // Docker's words
	case givenPassword:
		fmt.Fprintln(app.Stderr, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	}
	if f.user == "" && !givenPassword {
		if user, err := c.Known(host); err == nil && user != "" {
			if c.CheckKnown(ctx, host) == nil {
				fmt.Fprintf(app.Stderr, "Authenticating with existing credentials... [Username: %s]\n", user)
				fmt.Fprintln(app.Stdout, "Login Succeeded")
				return nil
			}
		}
	}
	if err := f.ask(ctx, app, givenPassword); err != nil {
		return err
	}
	if err := c.Login(ctx, host, f.user, f.password); err != nil {
		return err
	}
	fmt.Fprintln(app.Stdout, "Login Succeeded")
	return nil
}

// maxPassword bounds what is read of a password.
const maxPassword = 64 << 10

// ask reads the missing values from stdin, or asks for them on the terminal.
func (f *loginFlags) ask(ctx context.Context, app *command.App, givenPassword bool) error {
	if f.stdin {
		data, err := io.ReadAll(io.LimitReader(app.Input(ctx), maxPassword))
		if err != nil {
			return err
		}
		f.password = strings.TrimRight(string(data), "\r\n")
	}
	in, isFile := app.Stdin.(*os.File)
	atTerminal := isFile && term.IsTerminal(int(in.Fd()))
	if (f.user == "" || f.password == "" && !givenPassword && !f.stdin) && !atTerminal {
		return command.Verbatim{Err: errors.New("Error: Cannot perform an interactive login from a non TTY device")} //nolint:staticcheck // Docker's words
	}
	if f.user == "" {
		fmt.Fprint(app.Stderr, "Username: ")
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			return err
		}
		f.user = strings.TrimSpace(line)
	}
	if f.password == "" && !f.stdin && !givenPassword {
		fmt.Fprint(app.Stderr, "Password: ")
		data, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(app.Stderr)
		if err != nil {
			return err
		}
		f.password = string(data)
	}
	if f.user == "" || f.password == "" {
		return errors.New("username and password are required")
	}
	return nil
}

// NewLogoutCommand is `mica logout`.
func NewLogoutCommand(app *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "logout [SERVER]",
		Short: "Log out from a registry",
		Args:  command.RequireArgs(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			host := server(args)
			known, err := app.Registry().Logout(host)
			if err != nil {
				return err
			}
			if !known {
				fmt.Fprintf(app.Stdout, "Not logged in to %s\n", host)
				return nil
			}
			fmt.Fprintf(app.Stdout, "Removing login credentials for %s\n", host)
			return nil
		},
	}
}
