package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
)

// runCommand runs mica with arguments, in ctx.
func runCommand(ctx context.Context, t *testing.T, root func(*command.App) *cobra.Command, args ...string) (code int, stderr string) {
	t.Helper()
	stdout, _ := commandtest.Output(t)
	w, said := commandtest.Output(t)
	app := &command.App{Stdout: stdout, Stderr: w, Args: append([]string{"mica"}, args...)}
	code = run(ctx, app, root(app))
	return code, said()
}

// TestExitCodes are the exit codes and texts of errors that commands return.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	plain := errors.New("pull x: not found")
	for name, c := range map[string]struct {
		err  error
		code int
		want string
	}{
		"none":                    {nil, 0, ""},
		"plain":                   {plain, 1, "Error: pull x: not found\n"},
		"credentials":             {errors.New("get https://user:pw@host/: no"), 1, "Error: get https://xxxxx:xxxxx@host/: no\n"},
		"code":                    {&command.ExitError{Code: 3}, 3, ""},
		"code and error":          {&command.ExitError{Code: 64, Err: plain}, 64, "Error: pull x: not found\n"},
		"wrapped code":            {fmt.Errorf("run: %w", &command.ExitError{Code: 7, Err: plain}), 7, "Error: pull x: not found\n"},
		"docker's words":          {command.Verbatim{Err: errors.New("template parsing error: x")}, 1, "template parsing error: x\n"},
		"docker's words and code": {&command.ExitError{Code: 64, Err: command.Verbatim{Err: errors.New("template parsing error: x")}}, 64, "template parsing error: x\n"},
		"words that others have":  {errors.New("template parsing error: x"), 1, "Error: template parsing error: x\n"},
		"build":                   {command.FailedBuild{Err: plain}, 1, "ERROR: failed to build: pull x: not found\n"},
		"build of a target":       {fmt.Errorf("target a: %w", command.FailedBuild{Err: plain}), 1, "ERROR: target a: failed to build: pull x: not found\n"},
		"several":                 {command.ErrorList{plain, command.Verbatim{Err: errors.New("b")}}, 1, "Error: pull x: not found\nb\n"},
		"flag":                    {&command.UsageError{Err: errors.New("unknown flag: --x")}, 125, "unknown flag: --x\n\nUsage:  mica command [flags]\n\nRun 'mica command --help' for more information\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, said := runCommand(t.Context(), t, rootWith(c.err), "command")
			if code != c.code || said != c.want {
				t.Errorf("exit code %d: %q, want %d: %q", code, said, c.code, c.want)
			}
		})
	}
}

// rootWith is a mica that has one command, which returns an error.
func rootWith(err error) func(*command.App) *cobra.Command {
	return func(*command.App) *cobra.Command {
		root := &cobra.Command{Use: "mica", SilenceUsage: true, SilenceErrors: true}
		root.AddCommand(&cobra.Command{Use: "command", RunE: func(*cobra.Command, []string) error { return err }})
		return root
	}
}

// TestExitCodeOfSignals: an interrupted command ends with the code of its signal, and prints its error once.
func TestExitCodeOfSignals(t *testing.T) {
	t.Parallel()
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(interrupted{sig})
		code, said := runCommand(ctx, t, rootWith(fmt.Errorf("pull x: %w", context.Cause(ctx))), "command")
		if code != want || said != "Error: pull x: canceled\n" {
			t.Errorf("%v: exit code %d: %q, want %d", sig, code, said, want)
		}
	}
	if !errors.Is(interrupted{syscall.SIGINT}, context.Canceled) {
		t.Error("an interrupted command is a cancelled one")
	}
}

// TestUsageErrors are mistakes that commands find before they open the store.
func TestUsageErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		code int
		want string // the first line of stderr
	}{
		"unknown command":    {[]string{"dance"}, 1, "mica: unknown command: mica dance"},
		"of a group":         {[]string{"image", "dance"}, 1, "mica: unknown command: mica image dance"},
		"unknown flag":       {[]string{"pull", "--wings", "x"}, 125, "unknown flag: --wings"},
		"value of a flag":    {[]string{"build", "--pull=maybe", "."}, 125, `invalid argument "maybe" for "--pull" flag: strconv.ParseBool: parsing "maybe": invalid syntax`},
		"too few":            {[]string{"tag", "a"}, 1, "mica: 'mica tag' requires 2 arguments"},
		"too many":           {[]string{"build", "a", "b"}, 1, "mica: 'mica build' requires 1 argument"},
		"at least":           {[]string{"rmi"}, 1, "mica: 'mica rmi' requires at least 1 argument"},
		"at most":            {[]string{"logout", "a", "b"}, 1, "mica: 'mica logout' requires at most 1 argument"},
		"none":               {[]string{"version", "a"}, 1, "mica: 'mica version' accepts no arguments"},
		"name":               {[]string{"tag", "a", "B"}, 1, `error parsing reference: "B" is not a valid repository/tag: invalid reference format: repository name (library/B) must be lowercase`},
		"output":             {[]string{"build", "-o", "type=cake", "."}, 1, `Error: unknown output type "cake": use image, registry, oci, docker, tar, local or cacheonly`},
		"cache":              {[]string{"build", "--cache-to", "type=other", "."}, 1, `Error: invalid cache "type=other": unknown cache type "other": use registry, local, gha, s3 or azblob, or inline to write one`},
		"secret":             {[]string{"build", "--secret", "x", "."}, 1, `Error: invalid secret "x": field "x" must be a key=value pair`},
		"agent":              {[]string{"build", "--ssh", "a=b,raw=x", "."}, 1, `Error: invalid ssh "a=b,raw=x": raw is true or false, not "x"`},
		"attestation":        {[]string{"build", "--attest", "type=x", "."}, 1, `Error: invalid attestation "type=x": the type is provenance or sbom`},
		"platform":           {[]string{"build", "--platform", "a/b/c/d", "."}, 1, `ERROR: failed to build: invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`},
		"network":            {[]string{"build", "--network", "bridge", "."}, 1, `ERROR: failed to build: network mode "bridge" is not supported: use default, host or none`},
		"host":               {[]string{"build", "--add-host", "a", "."}, 1, "ERROR: failed to build: invalid host a: use name:address"},
		"context":            {[]string{"build", "--build-context", "a", "."}, 1, "Error: invalid context value: a, expected key=value"},
		"resource":           {[]string{"build", "--resource", "gpu=1", "."}, 1, `Error: unknown resource "gpu": use memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus or cpuset-mems`},
		"annotation":         {[]string{"build", "--annotation", "a", "."}, 1, `Error: invalid annotation "a", expected key=value`},
		"annotated files":    {[]string{"build", "--annotation", "a=b", "-o", "out", "."}, 1, "Error: annotations need an output that is an image: type=image, registry, oci or docker"},
		"call":               {[]string{"build", "--call", "dance", "."}, 1, `Error: unknown call "dance": use build, check, outline or targets`},
		"metadata":           {[]string{"build", "--metadata-file", "/no/such/f", "."}, 1, "Error: --metadata-file /no/such/f: no such directory: /no/such"},
		"print and list":     {[]string{"bake", "--print", "--list", "targets"}, 1, "Error: --print and --list are mutually exclusive"},
		"remote bake files":  {[]string{"bake", "https://h/x.git"}, 1, "Error: bake files of https://h/x.git: remote bake files are not supported"},
		"missing bake file":  {[]string{"bake", "-f", dir + "/no.hcl", "--print"}, 1, "Error: open " + dir + "/no.hcl: no such file or directory"},
		"variable of bake":   {[]string{"bake", "--var", "x", "--print"}, 1, `Error: invalid variable "x", expected key=value`},
		"call of bake":       {[]string{"bake", "--call", "dance", "--print"}, 1, `Error: unknown call "dance": use build, check, outline or targets`},
		"template":           {[]string{"inspect", "--format", "{{", "a"}, 64, "template parsing error: "},
		"output of save":     {[]string{"save"}, 1, "mica: 'mica save' requires at least 1 argument"},
		"name of a registry": {[]string{"tags", "A"}, 1, "Error: invalid reference format"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--root", filepath.Join(dir, "store")}, c.args...)
			code, said := runCommand(t.Context(), t, newRootCommand, args...)
			first, _, _ := strings.Cut(said, "\n")
			if code != c.code || !strings.HasPrefix(first, c.want) {
				t.Errorf("exit code %d: %q, want %d: %q", code, first, c.code, c.want)
			}
		})
	}
}
