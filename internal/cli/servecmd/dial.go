package servecmd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
)

// NewDialCommand is `mica dial-stdio`, by which a client that can only run commands where a server is, in a container or over ssh, reaches it.
func NewDialCommand(app *command.App) *cobra.Command {
	var addr string
	var check bool
	cmd := &cobra.Command{
		Use:    "dial-stdio",
		Short:  "Connect stdin and stdout to the socket of mica serve",
		Args:   command.RequireArgs(0, 0),
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return dialStdio(cmd.Context(), addr, check, os.Stdin, app.Stdout.File())
		},
	}
	cmd.Flags().StringVar(&addr, "addr", "", "Address of the socket (default: that of mica serve)")
	cmd.Flags().BoolVar(&check, "check", false, "Only see whether the server answers")
	return cmd
}

func dialStdio(ctx context.Context, addr string, check bool, in io.Reader, out io.Writer) (err error) {
	if addr == "" {
		if addr, err = defaultAddress(); err != nil {
			return err
		}
	}
	path, ok := strings.CutPrefix(addr, "unix://")
	if !ok {
		return &command.UsageError{Err: errors.New("--addr is not of the form unix://PATH")}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil || check {
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	go func() {
		_, _ = io.Copy(conn, in)
		_ = conn.(*net.UnixConn).CloseWrite() //nolint:forcetypeassert // it is one
	}()
	_, err = io.Copy(out, conn)
	return err
}
