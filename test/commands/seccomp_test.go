//go:build e2e

package commands

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// Every step of a build has Docker's filter of system calls, the later ones too, for which crun is given it as it was
// compiled before. What no kernel knows ends with ENOSYS (38), what is not allowed with EPERM (1).
func TestSystemCalls(t *testing.T) {
	for _, runtime := range []string{"crun", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			m := rig.NewMica(t)
			m.Env = append(m.Env, "MICA_RUNTIME="+runtime)
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
