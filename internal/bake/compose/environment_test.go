package compose

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEnvironment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environment Environment
		file        string // .env
		want        map[string]string
	}{
		"nothing":    {want: map[string]string{}},
		"environ":    {environment: Environment{Environ: []string{"A=1", "B=x=y", "C=", "D"}}, want: map[string]string{"A": "1", "B": "x=y", "C": "", "D": ""}},
		"file":       {file: "A=1\n# no\nexport B='x y'\n\nC=\"$A-2\"\n", want: map[string]string{"A": "1", "B": "x y", "C": "1-2"}},
		"precedence": {environment: Environment{Vars: map[string]string{"A": "var"}, Environ: []string{"A=environ", "B=environ"}}, file: "A=file\nB=file\nC=file\n", want: map[string]string{"A": "var", "B": "environ", "C": "file"}},
		"of others":  {environment: Environment{Environ: []string{"E=e"}}, file: "A=${E}${F:-f}\n", want: map[string]string{"A": "ef", "E": "e"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := c.environment
			e.Dir = t.TempDir()
			if c.file != "" {
				if err := os.WriteFile(filepath.Join(e.Dir, ".env"), []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := e.read()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEnvironmentErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("A B=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := Environment{Dir: dir}
	_, err := e.Services(files("services: {a: {build: .}}"))
	if err == nil || !strings.HasPrefix(err.Error(), "read .env: ") {
		t.Error(err)
	}
	if is, err := e.Check(files("services: {a: {build: .}}")[0]); !is || err == nil {
		t.Errorf("%t, %v", is, err)
	}
}

// TestEnvironmentDirectory: a directory of the name .env is not the file.
func TestEnvironmentDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".env"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := (Environment{Dir: dir}).read(); err != nil || len(got) > 0 {
		t.Errorf("%v, %v", got, err)
	}
}
