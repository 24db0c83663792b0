package ociruntime

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	fake := func(folder, name string) string {
		path := filepath.Join(dir, folder, name)
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
		folder, flag, variable, want string
		fails                        bool
	}{
		"both":                 {folder: "both", want: crun},
		"one":                  {folder: "alone", want: alone},
		"none":                 {folder: "none"},
		"by name":              {folder: "both", flag: "runc", want: runc},
		"by path":              {folder: "none", flag: other, want: other},
		"by variable":          {folder: "both", variable: "youki", want: other},
		"flag before variable": {folder: "both", flag: "runc", variable: "youki", want: runc},
		"unknown":              {folder: "both", flag: "gone", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", filepath.Join(dir, c.folder))
			t.Setenv("MICA_RUNTIME", c.variable)
			got, err := Find(c.flag)
			if got != c.want || (err != nil) != c.fails {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}
