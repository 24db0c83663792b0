//go:build e2e

package commands

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/test/rig"
)

// A step can pass a descriptor of its root filesystem to another process, which may not write there once the step has ended:
// mica makes a layer of it then. The test opens the root as /proc shows it, for want of another step.
func TestStepIsSealed(t *testing.T) {
	for _, user := range []string{"root", "mica-seal"} {
		for _, runtime := range []string{"crun", "runc"} {
			t.Run(user+"-"+runtime, func(t *testing.T) {
				m := rig.NewMica(t)
				if user != "root" {
					m = asUser(t, user, true)
					m.Prefix = append(m.Prefix, "MICA_RUNTIME="+runtime)
				}
				m.Env = append(m.Env, "MICA_RUNTIME="+runtime)
				importWorld(t, m)
				t.Run("directory", func(t *testing.T) { sealed(t, m, unix.O_PATH|unix.O_DIRECTORY, "") })
				t.Run("file", func(t *testing.T) {
					sealed(t, m, unix.O_WRONLY, "a process outside the step has a file of it open for writing")
				})
			})
		}
	}
}

// sealed runs a step, of which it opens the root or a file while it runs.
func sealed(t *testing.T, m *rig.Mica, flags int, refused string) {
	t.Helper()
	dir := world(t, directory(t, map[string]string{"Dockerfile": `FROM base
RUN --mount=type=cache,id=seal,target=/c mkdir /d && touch /d/f && rm -f /c/go && touch /c/ready && while [ ! -e /c/go ]; do sleep 0.05; done; rm /c/ready
RUN [ ! -e /d/late ]
`}))
	var log bytes.Buffer
	cmd := m.Command("build", "--no-cache", "--progress", "plain", "-t", "app", dir)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	name := "d"
	if flags&unix.O_DIRECTORY == 0 {
		name = "d/f"
	}
	fd := -1
	rig.Eventually(t, "the step runs", func() bool {
		roots, _ := filepath.Glob("/proc/[0-9]*/root/c/ready")
		for _, ready := range roots {
			root := strings.TrimSuffix(ready, "/c/ready")
			var err error
			if fd, err = unix.Open(filepath.Join(root, name), flags|unix.O_CLOEXEC, 0); err == nil {
				return os.WriteFile(filepath.Join(root, "c/go"), nil, 0o644) == nil
			}
		}
		return false
	})
	defer func() { _ = unix.Close(fd) }()
	err := cmd.Wait()
	if refused != "" {
		if err == nil || !strings.Contains(log.String(), refused) {
			t.Errorf("%v\n%s", err, log.String())
		}
		return
	}
	if err != nil {
		t.Fatal(fmt.Errorf("%w\n%s", err, log.String()))
	}
	if err := unix.Mkdirat(fd, "late", 0o755); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to a step that has ended: %v", err)
	}
}
