//go:build e2e

package commands

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// Every step of a build has Docker's filter of system calls, which crun is given compiled. Calls that no kernel has fail with
// ENOSYS (38), calls that are not allowed with EPERM (1). A crun that does not know the annotation compiles the same filter.
func TestSystemCalls(t *testing.T) {
	for name, annotated := range map[string]string{"crun": "11111", "crun without the annotation": "11111", "runc": "00000"} {
		t.Run(name, func(t *testing.T) {
			m := rig.NewMica(t)
			runtime, option, _ := strings.Cut(name, " ")
			noting := noteConfigs(t, runtime, option != "")
			m.Env = append(m.Env, "MICA_RUNTIME="+noting)
			rig.ImportBusybox(t, m, "base")
			dir := directory(t, map[string]string{"Dockerfile": `FROM base
COPY calls /
RUN /calls > /1
RUN /calls > /2
RUN /calls > /3
RUN /calls > /4
`})
			build := exec.Command("go", "build", "-o", filepath.Join(dir, "calls"), "./testdata/calls")
			build.Env = append(build.Environ(), "CGO_ENABLED=0")
			if out := rig.Run(t, build); out.Code != 0 {
				t.Fatal(out.Stderr)
			}
			m.Run("build", "-q", "-t", "app", dir)
			const want = "getpid: 0\nunshare: 1\nclone: 1\nmount: 1\nunknown: 38\n"
			if got := m.Run("run", "--rm", "app", "/calls"); got != want {
				t.Errorf("run: %s", got)
			}
			if got := given(t, noting); got != annotated {
				t.Errorf("steps with a compiled filter: %s, want %s", got, annotated)
			}
			for _, step := range []string{"/1", "/2", "/3", "/4"} {
				if got := m.Run("run", "--rm", "app", "cat", step); got != want {
					t.Errorf("step %s: %s", step, got)
				}
			}
		})
	}
}

// noteConfigs makes a runtime that notes of every process whether its configuration has a compiled filter. If remove is set,
// the runtime does not see it.
func noteConfigs(t *testing.T, runtime string, remove bool) string {
	t.Helper()
	path := filepath.Join(rig.TempDir(t), runtime+"-noting")
	edit := ""
	if remove {
		edit = `sed -i s/run.oci.seccomp_bpf_data/other/ "$a/config.json"`
	}
	script := `#!/bin/sh
for a; do
	if [ "$before" = --bundle ]; then
		grep -c run.oci.seccomp_bpf_data "$a/config.json" >>` + path + `.log
		` + edit + `
	fi
	before=$a
done
exec ` + runtime + ` "$@"
`
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// given is 1 for each process so far that was given a compiled filter, and 0 for each that was not.
func given(t *testing.T, noting string) string {
	t.Helper()
	data, err := os.ReadFile(noting + ".log")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), "\n", "")
}
