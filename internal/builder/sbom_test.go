package builder

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/catalog"
)

// TestFindCatalog checks that a build that lists packages at its end does not begin without the program that does.
func TestFindCatalog(t *testing.T) {
	attests := func(attrs map[string]string) buildspec.Spec {
		return buildspec.Spec{Attests: buildspec.Attests{buildspec.AttestSBOM: attrs}}
	}
	call := attests(map[string]string{})
	call.Call.Name = "lint"
	t.Setenv("PATH", t.TempDir())
	b := &Builder{}
	for name, c := range map[string]struct {
		spec  buildspec.Spec
		needs bool
	}{
		"no SBOM":           {buildspec.Spec{}, false},
		"SBOM":              {attests(map[string]string{}), true},
		"SBOM of a scanner": {attests(map[string]string{"generator": "scanner:1"}), false},
		"call":              {call, false},
	} {
		if err := b.findCatalog(t.Context(), &Options{Spec: c.spec}); errors.As(err, new(*catalog.NotInstalledError)) != c.needs {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(os.Getenv("PATH"), catalog.Program), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.findCatalog(t.Context(), &Options{Spec: attests(map[string]string{})}); err != nil {
		t.Error(err)
	}
}
