package explorecmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/inspect/inspecttest"
)

// wasteful is a store with an image that has something of everything.
func wasteful(t *testing.T) *commandtest.Mica {
	t.Helper()
	m := commandtest.New(t)
	img := m.Image(func(config map[string]any) {
		config["config"] = map[string]any{"Env": []string{"API_TOKEN=hunter2"}}
		config["history"] = []map[string]any{
			{"created_by": "COPY a /a # buildkit"}, {"created_by": "ENV API_TOKEN=hunter2", "empty_layer": true}, {"created_by": "RUN /bin/sh -c touch \x1b[2J # buildkit"},
		}
	}, map[string]string{"a": strings.Repeat("a", 200_000), "b\n": "bb"}, map[string]string{"a": "aa"})
	m.Tag(img, "waste:1")
	return m
}

func TestAnalyze(t *testing.T) {
	t.Parallel()
	m := wasteful(t)
	got := m.Run(NewAnalyzeCommand, "waste:1", "--max-size", "1GB", "--max-wasted", "100kB")
	var exit *command.ExitError
	if !errors.As(got.Err, &exit) || exit.Code != 1 || exit.Err != nil {
		t.Errorf("error %v, want exit code 1 alone", got.Err)
	}
	want := `Image: waste:1
ID: ID
Size: 200kB, 2 files
Efficiency: 0.00 %
Wasted: 200kB in 1 file
Duplicates: 0B in 0 files

STEP SIZE WASTED ADDED MODIFIED REMOVED CREATED BY
1 200kB 200kB 2 0 0 COPY a /a
3 2B 0B 0 1 0 RUN touch \x1b[2J

SIZE STEP LARGEST FILES
2B 3 /a
2B 1 /b\n

SIZE FILES STEP WASTED
200kB 1 1 /a (overwritten by step 3)

secret: the variable API_TOKEN holds a secret, as its name says
 set it when the container runs (run --env, --env-file), and change the secret

waste: /a: step 3 replaces 1 file (200kB) of step 1
 write them once: join steps 1 and 3, or build in a stage and COPY the result

RESULT CHECK LIMIT VALUE
FAIL max-wasted 100kB 200kB
pass max-size 1GB 200kB
`
	text := blanks.ReplaceAllString(got.Stdout, " ")
	if id := field(text, "ID: "); id != "" {
		text = strings.Replace(text, id, "ID", 1)
	}
	if diff := cmp.Diff(want, text); diff != "" {
		t.Error(diff)
	}
}

// blanks are the gaps of a table.
var blanks = regexp.MustCompile(` +`)

// field is what follows a label on its line.
func field(text, label string) string {
	_, rest, _ := strings.Cut(text, label)
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

func TestAnalyzeJSON(t *testing.T) {
	t.Parallel()
	m := wasteful(t)
	got := m.Run(NewAnalyzeCommand, "waste:1", "--format", "json", "--ci-config", commandtest.File(t, ".dive-ci", "rules: {lowestEfficiency: 0, highestUserWastedPercent: off}"))
	if got.Err != nil {
		t.Fatal(got.Err)
	}
	var r analyze.Report
	if err := json.Unmarshal([]byte(got.Stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Wasted != (analyze.Total{Bytes: 200_000, Files: 1}) || len(r.Checks) != 1 || !r.Checks[0].Pass || len(r.Findings) != 2 {
		t.Errorf("report: %+v", r)
	}
	if strings.Contains(got.Stdout, "hunter2") {
		t.Errorf("a secret is printed: %s", got.Stdout)
	}
}

func TestAnalyzeErrors(t *testing.T) {
	t.Parallel()
	m := wasteful(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"./missing"}, "./missing"},
		{[]string{}, "requires 1 argument"},
		{[]string{"waste:1", "--ci-config", "/nonexistent"}, "read --ci-config: open /nonexistent: no such file or directory"},
		{[]string{"waste:1", "--ci-config", commandtest.File(t, "rules", "rules: {highestWastedBytes: x}")}, `rule highestWastedBytes: "x" is not a size, as 20MB or 20MiB`},
	} {
		got := m.Run(NewAnalyzeCommand, test.args...)
		var exit *command.ExitError
		if !errors.As(got.Err, &exit) || exit.Code != 2 || !strings.Contains(got.Err.Error(), test.want) {
			t.Errorf("%v: %v", test.args, got.Err)
		}
	}
}

// TestAnalyzeFlags: a threshold that is no threshold is a mistake, also if it is empty: a script would take no check for one that passes.
func TestAnalyzeFlags(t *testing.T) {
	t.Parallel()
	m := wasteful(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"waste:1", "--max-wasted="}, `invalid --max-wasted: "" is not a size, as 20MB or 20MiB`},
		{[]string{"waste:1", "--max-size="}, `invalid --max-size: "" is not a size`},
		{[]string{"waste:1", "--min-efficiency="}, `invalid --min-efficiency: "" is not a ratio`},
		{[]string{"waste:1", "--ci-config="}, "invalid --ci-config: name a file"},
		{[]string{"waste:1", "--top", "-1"}, "invalid --top: -1 is negative"},
		{[]string{"waste:1", "--max-wasted", "much"}, `invalid --max-wasted: "much" is not a size, as 20MB or 20MiB`},
		{[]string{"waste:1", "--min-efficiency", "95"}, `invalid --min-efficiency: "95" is not a ratio between 0 and 1, nor a percentage`},
		{[]string{"waste:1", "--fail-on", "all"}, `invalid --fail-on: "all" is not a kind of findings (secret, waste, cache or duplicate)`},
	} {
		got := m.Run(NewAnalyzeCommand, test.args...)
		if !errors.As(got.Err, new(*command.UsageError)) || !strings.Contains(got.Err.Error(), test.want) {
			t.Errorf("%v: %v", test.args, got.Err)
		}
	}
}

// TestAnalyzeDirectory: an image need not be in the store.
func TestAnalyzeDirectory(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	got := m.Run(NewAnalyzeCommand, "dir:"+filepath.Dir(commandtest.File(t, ".npmrc", "//r/:_authToken=hunter2")), "--fail-on", "secret", "--format", "{{range .Findings}}{{.Path}}{{end}}")
	var exit *command.ExitError
	if !errors.As(got.Err, &exit) || exit.Code != 1 || got.Stdout != ".npmrc\n" {
		t.Errorf("%q, error %v", got.Stdout, got.Err)
	}
}

// ingested makes an image of one layer, as a pull or load does, which has a content twice.
func ingested(t *testing.T, m *commandtest.Mica, name string) {
	t.Helper()
	same := strings.Repeat(name, 100_000)
	l, _, err := m.Layers.Ingest(t.Context(), bytes.NewReader(inspecttest.Tar(t, inspecttest.File("a", same), inspecttest.File("b", same))), "", "")
	if err != nil {
		t.Fatal(err)
	}
	m.Tag(m.Image(func(config map[string]any) {
		config["rootfs"] = map[string]any{"type": "layers", "diff_ids": []digest.Digest{l.DiffID}}
	}), name)
}

// TestAnalyzeIngested: copies are found in a layer whose table of contents has no digests yet.
func TestAnalyzeIngested(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	ingested(t, m, "ab")
	got := m.Run(NewAnalyzeCommand, "ab", "--fail-on", "duplicate", "--format", "{{.Duplicates.Bytes}} {{len .Findings}}")
	var exit *command.ExitError
	if !errors.As(got.Err, &exit) || exit.Code != 1 || got.Stdout != "200000 1\n" {
		t.Errorf("%q, error %v", got.Stdout, got.Err)
	}
}

// TestExploreIngested: so they are by explore, which loads the tables of contents before.
func TestExploreIngested(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	ingested(t, m, "ab")
	img, err := (&inspect.Opener{Local: m.App.Local()}).Open(t.Context(), "ab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = img.Close() })
	shown, err := exploreImage(t.Context(), m.App, img)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := shown.Load(t.Context())
	if err != nil || !tree.Undigested {
		t.Fatalf("the layer has digests, or %v", err)
	}
	if r, err := shown.Analyze(t.Context(), tree); err != nil || r.Duplicates.Bytes != 200_000 {
		t.Errorf("%+v, %v", r, err)
	}
}
