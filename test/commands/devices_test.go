//go:build e2e

package commands

import (
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// A process may make device nodes, and open those that every container has, but no disk of the host's, nor anything else
// that it makes a node for. With --security=insecure it may.
func TestDevices(t *testing.T) {
	for _, runtime := range []string{"crun", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			m := rig.NewMica(t)
			m.Env = append(m.Env, "MICA_RUNTIME="+runtime)
			rig.ImportBusybox(t, m, "base")
			const try = `mknod /loop b 7 0 && mknod /fuse c 10 229 && mknod /null c 1 3 && echo >/null && ` +
				`for d in loop fuse; do if (exec 3</$d) 2>/dev/null; then echo $d; fi; done`
			if got := m.Run("run", "--rm", "base", "sh", "-c", try); got != "" {
				t.Errorf("run opens %s", got)
			}
			for _, limit := range [][]string{nil, {"--memory", "50m"}} {
				dir := directory(t, map[string]string{"Dockerfile": "FROM base\nRUN " + try + " >/opened\n"})
				m.Run(append(append([]string{"build", "-q", "-t", "app"}, limit...), dir)...)
				if got := m.Run("run", "--rm", "app", "cat", "/opened"); got != "" {
					t.Errorf("a step with %v opens %s", limit, got)
				}
			}
			dir := directory(t, map[string]string{"Dockerfile": "FROM base\nRUN --security=insecure " + try + " >/opened\n"})
			m.Run("build", "-q", "-t", "app", "--allow", "security.insecure", dir)
			if got := m.Run("run", "--rm", "app", "cat", "/opened"); got != "loop\nfuse\n" {
				t.Errorf("an insecure step opens %q", got)
			}
		})
	}
}

// Where steps have files of several filesystems in their root, all have one device number, as du -x and others expect.
func TestOneDevice(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	got := m.Run("run", "--rm", "base", "sh", "-c", "touch /new && stat -c %d / /bin /bin/busybox /etc /etc/passwd /new | sort -u | wc -l")
	if got != "1\n" {
		t.Errorf("%s devices", got)
	}
}
