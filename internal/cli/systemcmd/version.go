package systemcmd

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/printer"
	"github.com/micabuild/mica/internal/version"
)

type versionInfo struct {
	Version, GoVersion, GitCommit, Os, Arch string
}

// NewVersionCommand is `mica version`.
func NewVersionCommand(app *command.App) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "version [OPTIONS]", Short: "Show the mica version information", Args: command.RequireArgs(0, 0),
		RunE: func(*cobra.Command, []string) error { return runVersion(app, format) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `Format output: "json" or a Go template`)
	return cmd
}

func runVersion(app *command.App, format string) error {
	v := versionInfo{
		Version: version.String(), GitCommit: version.Revision(),
		GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH,
	}
	if format != "" {
		return printer.Template(app.Stdout, format, struct{ Client versionInfo }{v})
	}
	fmt.Fprintf(app.Stdout, "Client:\n Version:           %s\n Go version:        %s\n", v.Version, v.GoVersion)
	if v.GitCommit != "" {
		fmt.Fprintf(app.Stdout, " Git commit:        %s\n", v.GitCommit)
	}
	fmt.Fprintf(app.Stdout, " OS/Arch:           %s/%s\n", v.Os, v.Arch)
	return nil
}
