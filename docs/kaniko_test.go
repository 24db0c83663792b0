package docs

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli"
)

// TestKanikoFlags: kaniko.md says of each flag of the executor what it does, and has no other.
func TestKanikoFlags(t *testing.T) {
	t.Parallel()
	cmd, _, err := cli.Command().Find([]string{"executor"})
	if err != nil {
		t.Fatal(err)
	}
	var written []string
	for _, span := range inline.FindAllStringSubmatch(pages(t)["docs/kaniko.md"], -1) {
		if name, ok := strings.CutPrefix(span[1], "--"); ok {
			name, _, _ = strings.Cut(name, "=")
			written = append(written, name)
		}
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(written, f.Name) {
			t.Errorf("--%s is not in the page", f.Name)
		}
	})
	others := []string{"platform", "progress", "explain", "no-cache"} // of mica build
	for _, name := range written {
		if cmd.Flags().Lookup(name) == nil && !slices.Contains(others, name) {
			t.Errorf("--%s is no flag of the executor", name)
		}
	}
}
