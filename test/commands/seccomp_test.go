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

// Every step of a build has Docker's filter of system calls, the later ones too, for which crun is given it as it was
// compiled before. What no kernel knows ends with ENOSYS (38), what is not allowed with EPERM (1).
func TestSystemCalls(t *testing.T) {
	for _, runtime := range []string{"crun", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			m := rig.NewMica(t)
			noting := noteConfigs(t, runtime)
			m.Env = append(m.Env, "MICA_RUNTIME="+noting)
			rig.ImportBusybox(t, m, "base")
			dir := folder(t, map[string]string{"Dockerfile": `FROM base
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
			if got, want := given(t, noting), map[string]string{"crun": "0011", "runc": "0000"}[runtime]; got != want {
				t.Errorf("steps with a compiled filter: %s, want %s", got, want)
			}
			const want = "getpid: 0\nunshare: 1\nclone: 1\nmount: 1\nunknown: 38\n"
			for _, step := range []string{"/1", "/2", "/3", "/4"} {
				if got := m.Run("run", "--rm", "app", "cat", step); got != want {
					t.Errorf("step %s: %s", step, got)
				}
			}
			if got := m.Run("run", "--rm", "app", "/calls"); got != want {
				t.Errorf("run: %s", got)
			}
		})
	}
}

// noteConfigs is a runtime that notes of every process whether its configuration has a compiled filter.
func noteConfigs(t *testing.T, runtime string) string {
	t.Helper()
	path := filepath.Join(rig.TempDir(t), runtime+"-noting")
	script := `#!/bin/sh
for a; do
	[ "$before" != --bundle ] || grep -c run.oci.seccomp_bpf_data "$a/config.json" >>` + path + `.log
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
