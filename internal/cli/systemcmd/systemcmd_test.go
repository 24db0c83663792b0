package systemcmd

import (
	"encoding/json"
	"errors"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/cli/buildcmd"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/prune"
	"github.com/micabuild/mica/internal/version"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	platform := runtime.GOOS + "/" + runtime.GOARCH
	got := m.Run(NewVersionCommand)
	want := "Client:\n Version:           " + version.String() + "\n Go version:        " + runtime.Version() + "\n"
	if !strings.HasPrefix(got.Stdout, want) || !strings.HasSuffix(got.Stdout, " OS/Arch:           "+platform+"\n") || got.Err != nil {
		t.Errorf("%+v, want %q", got, want)
	}
	for format, want := range map[string]string{
		"{{.Client.Version}} {{.Client.Os}}/{{.Client.Arch}}": version.String() + " " + platform + "\n",
		"{{.Client.GitCommit}}":                               version.Revision() + "\n",
	} {
		if got := m.Run(NewVersionCommand, "-f", format); got.Stdout != want || got.Err != nil {
			t.Errorf("%s: %+v, want %q", format, got, want)
		}
	}
	var read struct{ Client map[string]string }
	if got := m.Run(NewVersionCommand, "--format", "json"); json.Unmarshal([]byte(got.Stdout), &read) != nil || read.Client["GoVersion"] != runtime.Version() {
		t.Errorf("%+v", got)
	}
	var exit *command.ExitError
	if got := m.Run(NewVersionCommand, "-f", "{{"); !errors.As(got.Err, &exit) || exit.Code != 64 || got.Stdout != "" {
		t.Errorf("%+v", got)
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	m.Tag(m.Image(nil), "a", "b")
	m.Image(nil, map[string]string{"f": "x"})
	got := m.Run(NewInfoCommand)
	for _, line := range []string{
		"mica version: " + version.String(), "Images: 2", "Store: " + m.Store.Root(), "Storage driver: overlay", "OS/Arch: " + runtime.GOOS + "/" + runtime.GOARCH,
	} {
		if !strings.Contains("\n"+got.Stdout, "\n"+line+"\n") {
			t.Errorf("no line %q in %s", line, got.Stdout)
		}
	}
	if got.Err != nil || !regexp.MustCompile(`(?m)^Network of processes: (their own, by pasta|the host's: .+)$`).MatchString(got.Stdout) {
		t.Errorf("%+v", got)
	}
	if got := m.Run(NewInfoCommand, "-f", "{{.Images}} {{.DockerRootDir}} {{.Driver}}"); got.Stdout != "2 "+m.Store.Root()+" overlay\n" || got.Err != nil {
		t.Errorf("%+v", got)
	}
	var read map[string]any
	if got := m.Run(NewInfoCommand, "-f", "json"); json.Unmarshal([]byte(got.Stdout), &read) != nil || read["Images"] != 2.0 || read["OSType"] != runtime.GOOS {
		t.Errorf("%+v", got)
	}
}

func TestSystemDf(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	table := func(args ...string) string {
		t.Helper()
		got := m.Run(NewSystemDfCommand, args...)
		if got.Err != nil {
			t.Fatalf("%q: %v", args, got.Err)
		}
		return commandtest.Columns(got.Stdout)
	}
	if got, want := table(), "TYPE  TOTAL  ACTIVE  SIZE  RECLAIMABLE\nImages  0  0  0B  0B\nBuild Cache  0  0  0B  0B\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	m.Tag(m.Image(nil, map[string]string{"f": strings.Repeat("x", 10_000)}), "app")
	dockerfile := strings.NewReader("FROM app AS a\nFROM a\nCOPY --from=a f /g\n")
	if got := m.RunWith(t.Context(), dockerfile, buildcmd.NewBuildCommand, "-q", "-"); got.Err != nil {
		t.Fatal(got.Err)
	}
	if got := table("--format", "{{.Type}} {{.TotalCount}}"); got != "Images 2\nBuild Cache 1\n" {
		t.Errorf("%q", got)
	}
	for line := range strings.Lines(table("--format", "json")) {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil || row["Type"] == "" || row["Size"] == "" {
			t.Errorf("%v: %s", err, line)
		}
	}
	verbose := table("-v")
	for _, part := range []string{
		"Images space usage:\n\nREPOSITORY  TAG  IMAGE ID  CREATED  SIZE\n", "app  latest  ", "\nBuild cache usage: ", "\n\nCACHE ID  DESCRIPTION  LAST USED\n", "  [stage-1 1/1] COPY --from=a f /g  ",
	} {
		if !strings.Contains(verbose, part) {
			t.Errorf("no %q in %s", part, verbose)
		}
	}
	if got := m.Run(NewSystemDfCommand, "--format", "{{.X}}"); got.Err == nil {
		t.Errorf("%+v", got)
	}
}

func TestUsageRow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		row     prune.Row
		percent bool
		want    usageRow
	}{
		"nothing":   {prune.Row{}, true, usageRow{Type: "T", Size: "0B", Reclaimable: "0B"}},
		"a part":    {prune.Row{Total: 3, Active: 1, Size: 2000, Reclaimable: 667}, true, usageRow{"T", 3, 1, "2kB", "667B (33%)"}},
		"all":       {prune.Row{Total: 1, Size: 1234567, Reclaimable: 1234567}, true, usageRow{"T", 1, 0, "1.235MB", "1.235MB (100%)"}},
		"no images": {prune.Row{Total: 1, Size: 1e9, Reclaimable: 1e9}, false, usageRow{"T", 1, 0, "1GB", "1GB"}},
	} {
		if diff := cmp.Diff(c.want, newUsageRow("T", c.row, c.percent)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}
