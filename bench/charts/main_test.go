package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	data := `{"rows": [
		{"group": "Rebuilding, again", "name": "two files", "ratio": 0.25, "times": {"mica": {"median": 0.05}, "Docker": {"median": 0.2}}},
		{"group": "Rebuilding, again", "name": "nobody did it", "times": {}},
		{"group": "Archives", "name": "alone", "times": {"mica": {"median": 12}}}
	], "curves": [
		{"name": "RUN steps", "unit": "steps", "lines": {"cold": [{"x": 1, "seconds": {"median": 0.1}}, {"x": 100, "seconds": {"median": 8}}]}},
		{"name": "one point", "unit": "files", "lines": {"all": [{"x": 1, "seconds": {"median": 0}}]}}
	]}`
	if err := os.WriteFile(filepath.Join(dir, "results.json"), []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(dir); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]string{
		"rebuilding-again.svg": {"two files (mica: 0.25 of the best peer)", "mica", "Docker", "50 ms", "0.2 s"},
		"archives.svg":         {"alone", "12 s"},
		"growth-run-steps.svg": {"RUN steps", "steps", "cold", "100 ms", "8 s"},
		"growth-one-point.svg": {"one point"},
	} {
		got := texts(t, filepath.Join(dir, file))
		for _, text := range want {
			if !got[text] {
				t.Errorf("%s does not show %q: %v", file, text, got)
			}
		}
		if got["nobody did it"] || got["buildah"] || got["Buildah"] {
			t.Errorf("%s shows what was not measured: %v", file, got)
		}
	}
}

// texts returns the texts of an SVG.
func texts(t *testing.T, path string) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	d := xml.NewDecoder(strings.NewReader(string(data)))
	for {
		token, err := d.Token()
		if token == nil {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			found[strings.TrimSpace(string(text))] = true
		}
	}
	return found
}
