package diffcmd

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
)

// newMica has the images app:1 and app:2.
func newMica(t *testing.T) *commandtest.Mica {
	t.Helper()
	m := commandtest.New(t)
	base := map[string]string{"base": "x"}
	one := func(c map[string]any) {
		c["config"] = map[string]any{"Env": []string{"PATH=/bin", "A=1"}, "Cmd": []string{"a"}}
		c["history"] = []map[string]any{{"created_by": "FROM"}, {"created_by": "RUN one"}}
	}
	two := func(c map[string]any) {
		c["config"] = map[string]any{"Env": []string{"PATH=/bin", "A=2"}, "Labels": map[string]string{"b": "c"}}
		c["history"] = []map[string]any{{"created_by": "FROM"}, {"created_by": "RUN two\nlines"}}
	}
	m.Tag(m.Image(one, base, map[string]string{"conf": "a\nb\nc\n", "gone": "12345", "bin": "\x00"}), "app:1")
	m.Tag(m.Image(two, base, map[string]string{"conf": "a\nB\x1b\nc\n", "new": "1", "bin": "\x00\x00"}), "app:2")
	return m
}

// code is the exit code of an error.
func code(err error) int {
	var exit *command.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.Code
	case err != nil:
		return -1
	}
	return 0
}

var digests = regexp.MustCompile(`\b[0-9a-f]{12}\b`)

func TestDiff(t *testing.T) {
	t.Parallel()
	m := newMica(t)
	got := m.Run(NewDiffCommand, "--text", "conf", "--text", "bin", "app:1", "app:2")
	want := `--- app:1 (store, HEX, linux/amd64)
+++ app:2 (store, HEX, linux/amd64)
config:   1 added, 1 removed, 1 changed
history:  1 added, 1 removed
layers:   1 (1B) shared, 1 (12B) removed, 1 (10B) added
files:    1 added (1B), 1 removed (5B), 2 changed (+2B)
note:     packages were not compared: mica-catalog is not installed: put it beside mica or on PATH; it comes in mica's packages and archives

Config
  - Cmd: ["a"]
  ~ Env A: "1" → "2"
  + Labels b: "c"

History
  - RUN one
  + RUN two lines

Layers
    HEX        1B  FROM
  - HEX       12B  RUN one
  + HEX       10B  RUN two lines

Files
  ~ /bin  content 1 → 2 B (HEX → HEX)
      no text: binary
  ~ /conf  content 6 → 7 B (HEX → HEX)
      --- a/conf
      +++ b/conf
      @@ -1,3 +1,3 @@
       a
      -b
      +B` + "\x1b" + `
       c
  - /gone  5B
  + /new  1B
`
	if text := digests.ReplaceAllString(got.Stdout, "HEX"); text != want || code(got.Err) != 1 || got.Stderr != "" {
		t.Errorf("%s\n%v %s", text, got.Err, got.Stderr)
	}
}

func TestDiffFlags(t *testing.T) {
	t.Parallel()
	m := newMica(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"base": "x", "conf": "a\nb\nc\n", "gone": "12345", "bin": "\x00"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		args string
		code int
		want string // in the output or the error
	}{
		{"app:1 app:1", 0, "No differences."},
		{"-q app:1 app:2", 1, ""},
		{"-q app:1 app:1", 0, ""},
		{"--only files --ignore conf --ignore bin --ignore /gone --ignore new app:1 app:2", 0, "files:    same"},
		{"--only files --ignore conf app:1 app:2", 1, "1 added"},
		{"--only layers app:1 app:2", 1, "1 (12B) removed"},
		{"--only layers --ignore-times app:1 app:2", 0, "which differ in what is ignored"},
		{"--only config --format json app:1 app:2", 1, `"field":"Env","key":"A","change":"changed","old":"1","new":"2"`},
		{"--only files --semantic app:1 app:2", 1, "not explained"},
		{"--ignore-times --ignore-owners app:1 DIR", 0, "has neither config nor history"},
		{"--ignore-times --ignore-owners dir:DIR app:2", 1, "+ /new"},
		{"--only config DIR app:2", 2, "has no config to compare"},
		{"--only other app:1 app:2", 2, `unknown section "other": there are config, history, layers, packages, files`},
		{"--only files DIR DIR", 0, "+++ DIR (directory)\nNo differences.\nfiles:    same\n"},
		{"--only config,files DIR app:2", 2, "has no config to compare"},
		{"--ignore / --ignore !bin --only files app:1 app:2", 1, "files:    1 changed"},
		{"--only packages app:1 app:2", 2, "mica-catalog is not installed"},
		{"app:1 UPPER", 2, "UPPER"},
		{"app:1", 2, "requires 2 arguments"},
		{"--platform x/y/z/w app:1 app:2", 2, "invalid platform"},
		{"--ignore [ app:1 app:2", 2, "invalid pattern"},
		{"--format {{.No}} app:1 app:2", 64, "template parsing error"},
	} {
		args := strings.Fields(strings.ReplaceAll(test.args, "DIR", dir))
		got := m.Run(NewDiffCommand, args...)
		text := strings.ReplaceAll(got.Stdout+commandtest.Text(got.Err), dir, "DIR")
		if code(got.Err) != test.code || !strings.Contains(text, test.want) || strings.Contains(test.args, "-q") && got.Stdout != "" {
			t.Errorf("%s: %d\n%s", test.args, code(got.Err), text)
		}
	}
}
