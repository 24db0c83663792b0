package main

import (
	"debug/buildinfo"
	"regexp"
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	info := &buildinfo.BuildInfo{
		GoVersion: "go1.26.3",
		Main:      debug.Module{Path: "example.com/tool", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "example.com/one", Version: "v1.0.0"},
			{Path: "example.com/a_b", Version: "v2.0.0+incompatible"},
			{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v1.1.0"}},
			{Path: "example.com/copied", Version: "v1.2.0", Replace: &debug.Module{Path: "./copied"}},
		},
	}
	doc := describe(info, "v0.1.0", "tool", "abcd")

	want := []string{
		"pkg:golang/example.com/tool@v0.1.0", "pkg:golang/stdlib@1.26.3", "pkg:golang/example.com/one@v1.0.0",
		"pkg:golang/example.com/a_b@v2.0.0%2Bincompatible", "pkg:golang/example.com/new@v1.1.0",
		"pkg:golang/example.com/copied@v1.2.0",
	}
	if len(doc.Packages) != len(want) {
		t.Fatalf("%d packages, not %d", len(doc.Packages), len(want))
	}
	valid, ids := regexp.MustCompile(`^SPDXRef-[a-zA-Z0-9.-]+$`), map[string]bool{documentID: true}
	for i, p := range doc.Packages {
		if got := p.Refs[0].Locator; got != want[i] {
			t.Errorf("package %d is %s, not %s", i, got, want[i])
		}
		if !valid.MatchString(p.ID) || ids[p.ID] {
			t.Errorf("identifier %q is invalid or not unique", p.ID)
		}
		ids[p.ID] = true
	}
	for _, r := range doc.Relationships {
		if !ids[r.Element] || !ids[r.Related] {
			t.Errorf("relationship of unknown elements: %v", r)
		}
	}
	if got := len(doc.Relationships); got != len(want) {
		t.Errorf("%d relationships, not %d: one for each package", got, len(want))
	}
	if c := doc.Packages[0].Checksums; len(c) != 1 || c[0].Value != "abcd" {
		t.Errorf("checksums of the binary: %v", c)
	}
}
