package registrycmd

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// fixture is mica beside a registry in memory. In texts, REG is the registry's address.
type fixture struct {
	*commandtest.Mica
	reg *registrytest.Server
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return &fixture{commandtest.New(t), registrytest.New(t)}
}

// outcome is what a command prints, and its error. The lines of stderr are sorted: layers move at the same time.
type outcome struct{ out, stderr, err string }

// run runs a command.
func (f *fixture) run(newCommand func(*command.App) *cobra.Command, args string) outcome {
	r := f.RunWith(f.reg.T.Context(), strings.NewReader(""), newCommand, strings.Fields(strings.ReplaceAll(args, "REG", f.reg.Addr))...)
	lines := strings.SplitAfter(r.Stderr, "\n")
	slices.Sort(lines)
	short := func(s string) string { return strings.ReplaceAll(s, f.reg.Addr, "REG") }
	return outcome{short(r.Stdout), short(strings.Join(lines, "")), short(commandtest.Text(r.Err))}
}

// test runs a command and compares.
func (f *fixture) test(t *testing.T, newCommand func(*command.App) *cobra.Command, args string, want outcome) {
	t.Helper()
	if diff := cmp.Diff(want, f.run(newCommand, args), cmp.AllowUnexported(outcome{})); diff != "" {
		t.Errorf("%s:\n%s", args, diff)
	}
}

// fails runs commands that print nothing on stdout, and compares their errors.
func (f *fixture) fails(t *testing.T, newCommand func(*command.App) *cobra.Command, cases map[string]string) {
	t.Helper()
	for args, want := range cases {
		if got := f.run(newCommand, args); got.err != want || got.out != "" {
			t.Errorf("%s: %q, stdout %q, want %q", args, got.err, got.out, want)
		}
	}
}

// putImage adds an image of one layer to the registry. short is how docker abbreviates the layer's digest.
func (f *fixture) putImage(t *testing.T, repo, tag, content string) (digest, short string) {
	t.Helper()
	layer := registrytest.Layer(t, "f", []byte(content))
	d := f.reg.PutImage(repo, tag, "amd64", nil, layer)
	return d.Digest, strings.TrimPrefix(registrytest.Digest(registrytest.Gzip(t, layer)), "sha256:")[:12]
}

// sorted are lines in the order of run.
func sorted(lines ...string) string { return strings.Join(slices.Sorted(slices.Values(lines)), "") }

const badName = `invalid reference format: "A": invalid reference format: repository name (library/A) must be lowercase`
