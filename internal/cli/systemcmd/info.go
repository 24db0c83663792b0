// Package systemcmd has the commands about mica itself: info, version and system df.
package systemcmd

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/docker/cli/cli/command/formatter/tabwriter"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/printer"
	"github.com/micabuild/mica/internal/isolation"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/userns"
	"github.com/micabuild/mica/internal/version"
)

type systemInfo struct {
	ServerVersion  string // under Docker's names, though there is no server
	DockerRootDir  string
	Images         int
	Driver         string
	DefaultRuntime string
	OSType         string
	Architecture   string
	NCPU           int
	Rootless       bool
	Network        string // of processes, where they ask for none: "own" or "host"
	NetworkReason  string `json:",omitempty"` // why it is the host's
	SingleID       bool
	// Isolation is how processes are isolated: see package isolation.
	Isolation       isolation.Mode
	IsolationReason string `json:",omitempty"` // why it is not by an OCI runtime
}

// NewInfoCommand is `mica info`.
func NewInfoCommand(app *command.App) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "info [OPTIONS]", Short: "Display system-wide information", Args: command.RequireArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runInfo(cmd.Context(), app, format) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `Format output: "json" or a Go template`)
	return cmd
}

func runInfo(ctx context.Context, app *command.App, format string) error {
	if err := app.Open(ctx); err != nil {
		return err
	}
	images, err := app.Images.List(ctx)
	if err != nil && images == nil {
		return err
	}
	i := systemInfo{
		ServerVersion: version.String(), DockerRootDir: app.Store.Root(), Images: len(images), Driver: "overlay",
		OSType: runtime.GOOS, Architecture: runtime.GOARCH, NCPU: runtime.NumCPU(),
		Rootless: !userns.IsRealRoot(), SingleID: userns.Current().Single(), DefaultRuntime: "none",
	}
	i.Isolation = cmp.Or(app.Isolation.Mode, isolation.OCI)
	if app.Isolation.Reason != nil {
		i.IsolationReason = app.Isolation.Reason.Error()
	}
	i.Network = "own"
	if _, err := network.Find(userns.Current().Nested()); err != nil {
		i.Network, i.NetworkReason = "host", err.Error()
	}
	if path, err := ociruntime.Find(""); err != nil {
		return err
	} else if path != "" {
		i.DefaultRuntime = filepath.Base(path)
	}
	if format != "" {
		return printer.Template(app.Stdout, format, i)
	}
	w := tabwriter.NewWriter(app.Stdout, 0, 1, 1, ' ', 0)
	fmt.Fprintf(w, "mica version: %s\nImages: %d\nStore: %s\nStorage driver: %s\nOCI runtime: %s\nOS/Arch: %s/%s\nCPUs: %d\nRootless: %t\n",
		i.ServerVersion, i.Images, i.DockerRootDir, i.Driver, i.DefaultRuntime, i.OSType, i.Architecture, i.NCPU, i.Rootless)
	fmt.Fprintln(w, "Isolation of processes: "+i.isolation())
	if i.NetworkReason == "" {
		fmt.Fprintln(w, "Network of processes: their own, by pasta")
	} else {
		fmt.Fprintf(w, "Network of processes: the host's: %s\n", i.NetworkReason)
	}
	if i.SingleID {
		fmt.Fprintln(w, "User ids: only your own; add ranges to /etc/subuid and /etc/subgid to keep the owners of files")
	}
	return w.Flush()
}

// isolation describes how processes are isolated.
func (i *systemInfo) isolation() string {
	text := map[isolation.Mode]string{
		isolation.OCI: "oci, by an OCI runtime", isolation.Chroot: "chroot, without namespaces: RUN works, run does not",
		isolation.Fakeroot: "fakeroot, in the root directory of the container: RUN works, run does not", isolation.None: "none, RUN and run do not work",
	}[i.Isolation]
	if i.IsolationReason != "" {
		text += ": " + i.IsolationReason
	}
	return text
}
