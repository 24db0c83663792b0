// Package uicmd has the command that shows images and builds in a browser.
package uicmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/ui"
	"github.com/micabuild/mica/internal/version"
)

type uiFlags struct {
	listen       string
	remote, open bool
}

// NewUICommand is `mica ui`.
func NewUICommand(app *command.App) *cobra.Command {
	var f uiFlags
	cmd := &cobra.Command{
		Use:   "ui [OPTIONS]",
		Short: "Explain images and builds in a browser",
		Long: "Explain images and builds in a browser: layers, files, sizes, the steps of builds and why they ran, and the build cache.\n\n" +
			"mica prints a URL with a token, which only your browser should get, and serves it until it is interrupted.",
		Args: command.RequireArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runUI(cmd.Context(), app, &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:0", "Address and port to listen on; port 0 is any free one")
	fl.BoolVar(&f.remote, "allow-remote", false, "Allow an address that other hosts reach; the connection is not encrypted")
	fl.BoolVar(&f.open, "open", false, "Open the page in your browser")
	return cmd
}

func runUI(ctx context.Context, app *command.App, f *uiFlags) error {
	if _, _, err := net.SplitHostPort(f.listen); err != nil {
		return &command.UsageError{Err: fmt.Errorf("--listen %s: it is not HOST:PORT, as 127.0.0.1:8080", f.listen)}
	}
	if !ui.IsLoopback(f.listen) && !f.remote {
		return remoteError(f.listen)
	}
	var b browser
	if f.open {
		var err error
		if b, err = newBrowser(ctx, app.Stderr); err != nil {
			return err
		}
		defer b.remove()
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", f.listen, err)
	}
	if !ui.IsLoopback(l.Addr().String()) {
		if !f.remote { // the host has another address for localhost
			return errors.Join(remoteError(l.Addr().String()), l.Close())
		}
		fmt.Fprintln(app.Stderr, "WARNING: other hosts can reach this page, and read the token and the answers on the way: the connection is not encrypted.")
	}
	client := sync.OnceValue(app.Registry) // for requests at the same time
	s := ui.New(ui.Options{
		Store: app.Store, Registry: client, Version: version.String(),
		Fetch: func(ctx context.Context, repository string, desc ocispec.Descriptor) (io.ReadCloser, error) {
			return client().OpenBlob(ctx, repository, desc)
		},
	})
	url := s.URL(l.Addr())
	fmt.Fprintln(app.Stdout, url)
	if err := app.Stdout.Flush(); err != nil {
		return errors.Join(fmt.Errorf("write to stdout: %w", err), l.Close())
	}
	if f.open {
		if err := b.show(url); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	return s.Serve(ctx, l)
}

// remoteError is the error for an address that other hosts may reach.
func remoteError(address string) error {
	return &command.UsageError{Err: fmt.Errorf("--listen %s: other hosts may reach this address: use 127.0.0.1:PORT, with a tunnel of ssh -L, or add --allow-remote", address)}
}
