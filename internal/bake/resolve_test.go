package bake

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestChainsOfLinks: a target is visited once, however long the chains are and however often they meet.
func TestChainsOfLinks(t *testing.T) {
	t.Parallel()
	const length = 3000
	chain := &Config{Targets: []*Target{{Name: "t0"}}}
	for i := 1; i < length; i++ {
		up := fmt.Sprintf("target:t%d", i-1)
		chain.Targets = append(chain.Targets, &Target{Name: fmt.Sprintf("t%d", i), Contexts: map[string]string{"up": up}})
	}
	def, err := chain.resolve(Options{Targets: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(def.Targets) != length {
		t.Errorf("%d targets", len(def.Targets))
	}
}

// diamonds is a file in which each of n targets or groups refers to the two before it.
func diamonds(n int, format string) string {
	var file strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&file, format+"\n", i, i-1, max(i-2, 0))
	}
	return file.String()
}

// TestDiamonds: to follow each path takes longer than anybody waits.
func TestDiamonds(t *testing.T) {
	t.Parallel()
	const levels = 60
	last := fmt.Sprintf("t%d", levels-1)
	for name, c := range map[string]struct {
		file string
		want int // targets
	}{
		"links":    {diamonds(levels, `target "t%d" { contexts = { a = "target:t%d", b = "target:t%d" } }`) + `target "t0" {}`, levels},
		"inherits": {diamonds(levels, `target "t%d" { inherits = ["t%d", "t%d"] }`) + `target "t0" { tags = ["x"] }`, 1},
		"groups":   {diamonds(levels, `group "t%d" { targets = ["t%d", "t%d"] }`) + `target "t0" { tags = ["x"] }`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			def, err := Read([]File{{"docker-bake.hcl", []byte(c.file)}}, Options{Targets: []string{last}})
			if err != nil {
				t.Fatal(err)
			}
			if len(def.Targets) != c.want {
				t.Errorf("%d targets, want %d", len(def.Targets), c.want)
			}
			if name == "links" {
				return
			}
			for _, target := range def.Targets {
				if !slices.Equal(target.Tags, []string{"x"}) || target.Inherits != nil {
					t.Errorf("tags %v, inherits %v", target.Tags, target.Inherits)
				}
			}
		})
	}
}
