package container

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/network"
)

// text is the text of an error, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestEnvironment(t *testing.T) {
	t.Setenv("FROM_MICA", "m")
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# a comment\nFILE=f\nBOTH=file\n\nFROM_MICA\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for name, c := range map[string]struct {
		of   Environment
		want []string
	}{
		"nothing":                    {Environment{Hostname: "h"}, []string{path, "HOSTNAME=h"}},
		"a terminal":                 {Environment{Hostname: "h", TTY: true}, []string{path, "HOSTNAME=h", "TERM=xterm"}},
		"the image's":                {Environment{Image: []string{"PATH=/bin", "A=1"}}, []string{"PATH=/bin", "HOSTNAME=", "A=1"}},
		"set over the image's":       {Environment{Image: []string{"A=1", "B=2"}, Set: []string{"A=3"}}, []string{path, "HOSTNAME=", "A=3", "B=2"}},
		"the last counts":            {Environment{Set: []string{"A=1", "A=2"}}, []string{path, "HOSTNAME=", "A=2"}},
		"an empty value":             {Environment{Image: []string{"A=1"}, Set: []string{"A="}}, []string{path, "HOSTNAME=", "A="}},
		"mica's own":                 {Environment{Set: []string{"FROM_MICA"}}, []string{path, "HOSTNAME=", "FROM_MICA=m"}},
		"taken away":                 {Environment{Image: []string{"A=1", "B=2"}, Set: []string{"A"}}, []string{path, "HOSTNAME=", "B=2"}},
		"PATH taken away":            {Environment{Set: []string{"PATH_OF_NOBODY", "HOSTNAME=x"}}, []string{path, "HOSTNAME=x"}},
		"a file":                     {Environment{Files: []string{file}, Set: []string{"BOTH=flag"}}, []string{path, "HOSTNAME=", "FILE=f", "BOTH=flag", "FROM_MICA=m"}},
		"a terminal of another kind": {Environment{TTY: true, Set: []string{"TERM=vt100"}}, []string{path, "HOSTNAME=", "TERM=vt100"}},
	} {
		given := slices.Clone(c.of.Set)
		got, err := c.of.Variables()
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if !slices.Equal(given, c.of.Set) {
			t.Errorf("%s: what was given became %q", name, c.of.Set)
		}
	}
	for name, c := range map[string]struct {
		of   Environment
		want string
	}{
		"no name":        {Environment{Set: []string{"=x"}}, `invalid argument "=x" for "-e, --env" flag: invalid environment variable: =x`},
		"a missing file": {Environment{Files: []string{file + "x"}}, "--env-file: open " + file + "x: no such file or directory"},
	} {
		if _, err := c.of.Variables(); text(err) != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestExtraHosts(t *testing.T) {
	t.Parallel()
	got, err := ExtraHosts([]string{"a:1.2.3.4", "b=::1", "c=[fe80::1]", "d:host-gateway", "e:::2"}, "10.0.0.1")
	want := []network.ExtraHost{{Host: "a", IP: "1.2.3.4"}, {Host: "b", IP: "::1"}, {Host: "c", IP: "fe80::1"}, {Host: "d", IP: "10.0.0.1"}, {Host: "e", IP: "::2"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, flag := range []string{"a", ":1.2.3.4", "a:", "a:1.2.3", "a=b"} {
		if _, err := ExtraHosts([]string{flag}, ""); !strings.HasPrefix(text(err), `invalid argument "`+flag+`" for "--add-host" flag: `) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
