package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is set by scripts/dist through the linker. It is empty in a binary that make, go build or go install made, whose build
// information has it.
var Version string

// Commit is set by scripts/dist through the linker, like Version.
var Commit string

type versionInfo struct {
	Version, GoVersion, GitCommit, Os, Arch string
}

func newVersionCommand(app *App) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "version [OPTIONS]", Short: "Show the mica version information", Args: requireArgs(0, 0),
		RunE: func(*cobra.Command, []string) error { return runVersion(app, format) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `Format output: "json" or a Go template`)
	return cmd
}

func runVersion(app *App, format string) error {
	info, _ := debug.ReadBuildInfo()
	v := versionInfo{
		Version: cmp.Or(Version, recordedVersion(info)), GitCommit: cmp.Or(Commit, recordedCommit(info)),
		GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH,
	}
	if format != "" {
		return printTemplate(app, format, struct{ Client versionInfo }{v})
	}
	fmt.Fprintf(app.Stdout, "Client:\n Version:           %s\n Go version:        %s\n", v.Version, v.GoVersion)
	if v.GitCommit != "" {
		fmt.Fprintf(app.Stdout, " Git commit:        %s\n", v.GitCommit)
	}
	fmt.Fprintf(app.Stdout, " OS/Arch:           %s/%s\n", v.Os, v.Arch)
	return nil
}

// version returns the version of this binary, "dev" if it is unknown.
func version() string {
	if Version != "" {
		return Version
	}
	info, _ := debug.ReadBuildInfo()
	return recordedVersion(info)
}

// recordedVersion returns the version of the main module: the one that go install was asked for, or the tag or pseudo-version
// of the checkout that go build ran in. It is "dev" where Go recorded none: go run, go test, -buildvcs=false.
func recordedVersion(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "dev"
	}
	return info.Main.Version
}

// recordedCommit returns the commit of the checkout that go build ran in, or "".
func recordedCommit(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
