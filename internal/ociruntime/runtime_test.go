package ociruntime

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	fake := func(directory, name string) string {
		path := filepath.Join(dir, directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	crun, runc := fake("both", "crun"), fake("both", "runc")
	alone, other := fake("alone", "runc"), fake("both", "youki")
	for name, c := range map[string]struct {
		directory, flag, variable, want string
		fails                           bool
	}{
		"both":                 {directory: "both", want: crun},
		"one":                  {directory: "alone", want: alone},
		"none":                 {directory: "none"},
		"by name":              {directory: "both", flag: "runc", want: runc},
		"by path":              {directory: "none", flag: other, want: other},
		"by variable":          {directory: "both", variable: "youki", want: other},
		"flag before variable": {directory: "both", flag: "runc", variable: "youki", want: runc},
		"unknown":              {directory: "both", flag: "gone", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", filepath.Join(dir, c.directory))
			t.Setenv("MICA_RUNTIME", c.variable)
			got, err := Find(c.flag)
			if got != c.want || (err != nil) != c.fails {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}
