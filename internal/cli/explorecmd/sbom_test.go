package explorecmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/catalog"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
)

// catalogued is a store with the image app:1, and a mica-catalog that says something of it.
func catalogued(t *testing.T, messages ...string) *commandtest.Mica {
	t.Helper()
	m := commandtest.New(t)
	m.Tag(m.Image(func(config map[string]any) { config["created"] = "2024-05-06T07:08:09Z" }, map[string]string{"a": "a"}), "app:1")
	m.Catalog = filepath.Join(t.TempDir(), catalog.Program)
	lines := append([]string{fmt.Sprintf(`{"op":"hello","text":%q}`, catalog.Protocol)}, messages...)
	script := "#!/bin/sh\ncat <<'END'\n" + strings.Join(append(lines, `{"op":"done"}`), "\n") + "\nEND\n"
	if err := os.WriteFile(m.Catalog, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return m
}

var messages = []string{
	`{"op":"package","package":{"type":"npm","name":"left-pad","version":"1.3.0","purl":"pkg:npm/left-pad@1.3.0","licenses":["WTFPL"],"path":"b/package.json"}}`,
	`{"op":"package","package":{"type":"npm","name":"left-pad","version":"1.3.0","purl":"pkg:npm/left-pad@1.3.0","path":"a/package.json"}}`,
	`{"op":"package","package":{"type":"deb","name":"bash\t\u001b[2J<b>","version":"5","path":"var/lib/dpkg/status"}}`,
	`{"op":"warn","path":"x.jar","text":"not a valid zip file"}`,
}

func TestSBOMTable(t *testing.T) {
	t.Parallel()
	m := catalogued(t, append([]string{`{"op":"package","package":{"type":"gem","name":"` + strings.Repeat("ä", 200) + `","path":"g"}}`}, messages...)...)
	got := m.Run(NewSBOMCommand, "app:1")
	lines := strings.Split(got.Stdout, "\n")
	if got.Err != nil || got.Stderr != "WARNING: not catalogued: x.jar: not a valid zip file\n" || len(lines) != 5 {
		t.Fatalf("%+v", got)
	}
	for i, want := range [][]string{{"NAME", "VERSION", "TYPE"}, {"bash", "\x1b[2J<b>", "5", "deb"}, {"left-pad", "1.3.0", "npm"}, {strings.Repeat("ä", 127) + "…", "gem"}, nil} {
		if strings.Join(strings.Fields(lines[i]), " ") != strings.Join(want, " ") {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
	if again := m.Run(NewSBOMCommand, "app:1"); again.Stdout != got.Stdout || again.Stderr != got.Stderr { // from the store
		t.Errorf("the second time: %+v", again)
	}
}

// TestSBOMFormats checks that each format is JSON with what the image has, on stdout and in a file.
func TestSBOMFormats(t *testing.T) {
	t.Parallel()
	m := catalogued(t, messages...)
	for format, wants := range map[string][]string{
		"json":           {`"path": "a/package.json"`, `"licenses": [`, `\u001b[2J<b>`},
		"spdx-json":      {`"spdxVersion": "SPDX-2.3"`, `"created": "2024-05-06T07:08:09Z"`, `"referenceLocator": "pkg:npm/left-pad@1.3.0"`, `"referenceLocator": "pkg:docker/app@1?platform=`, `"licenseDeclared": "WTFPL"`},
		"cyclonedx-json": {`"specVersion": "1.6"`, `"timestamp": "2024-05-06T07:08:09Z"`, `"purl": "pkg:docker/app@1?platform=`},
	} {
		got := m.Run(NewSBOMCommand, "app:1", "--format", format)
		if got.Err != nil || !json.Valid([]byte(got.Stdout)) {
			t.Errorf("%s: %+v", format, got)
		}
		for _, want := range wants {
			if !strings.Contains(got.Stdout, want) {
				t.Errorf("%s lacks %s:\n%s", format, want, got.Stdout)
			}
		}
		file := filepath.Join(t.TempDir(), "out.json")
		written := m.Run(NewSBOMCommand, "app:1", "--format", format, "-o", file)
		if data, err := os.ReadFile(file); err != nil || string(data) != got.Stdout || written.Stdout != "" {
			t.Errorf("%s: the file is another document, %v, %+v", format, err, written)
		}
	}
	if got := catalogued(t).Run(NewSBOMCommand, "app:1", "--format", "json"); got.Stdout != "[]\n" {
		t.Errorf("no packages: %+v", got)
	}
}

func TestSBOMErrors(t *testing.T) {
	t.Parallel()
	m := catalogued(t, messages...)
	for _, c := range []struct {
		args  []string
		want  string
		usage bool
	}{
		{[]string{"app:1", "--format", "xml"}, `invalid format "xml": use table, json, spdx-json or cyclonedx-json`, true},
		{[]string{"app:1", "--platform", "a/b/c/d"}, "a/b/c/d", false},
		{[]string{"app:1", "-o", filepath.Join(t.TempDir(), "no", "file")}, "no such file or directory", false},
		{[]string{"nosuch:1"}, "nosuch:1", false},
	} {
		got := m.Run(NewSBOMCommand, c.args...)
		if got.Err == nil || !strings.Contains(got.Err.Error(), c.want) || strings.Contains(got.Err.Error(), "\n") || got.Stdout != "" {
			t.Errorf("%q: %+v, want %q", c.args, got, c.want)
		}
		if c.usage != errors.As(got.Err, new(*command.UsageError)) {
			t.Errorf("%q: %T", c.args, got.Err)
		}
	}
	m = catalogued(t)
	m.Catalog += "-is-gone"
	if got := m.Run(NewSBOMCommand, "app:1"); !errors.As(got.Err, new(*catalog.NotInstalledError)) || !strings.HasPrefix(got.Err.Error(), "sbom of app:1: mica-catalog is not installed") {
		t.Errorf("%+v", got)
	}
}
