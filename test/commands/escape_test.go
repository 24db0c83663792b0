//go:build e2e

package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/test/rig"
)

// escapeTries is how many steps each run of TestMountRace has.
const escapeTries = 60

// A cache mount's source= names a directory that another step turns into a link to / and back, all the time. Neither it nor a
// mount point below it may lead a step, or mica, to the host's files.
func TestMountRace(t *testing.T) {
	for _, user := range []string{"root", "mica-race"} {
		for _, runtime := range []string{"crun", "runc"} {
			t.Run(user+"-"+runtime, func(t *testing.T) {
				m := rig.NewMica(t)
				if user != "root" {
					m = asUser(t, user, true)
				}
				m.Env = append(m.Env, "MICA_RUNTIME="+runtime)
				if user != "root" {
					m.Prefix = append(m.Prefix, "MICA_RUNTIME="+runtime)
				}
				importWorld(t, m)
				raceMounts(t, m)
			})
		}
	}
}

func raceMounts(t *testing.T, m *rig.Mica) {
	t.Helper()
	canary := filepath.Join(rig.TempDir(t), "dir")
	if err := os.Mkdir(canary, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{canary, filepath.Dir(canary)} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	build := func(dockerfile string) string {
		out := m.Try(nil, "build", "--progress", "plain", world(t, directory(t, map[string]string{"Dockerfile": "FROM base\n" + dockerfile})))
		if out.Code != 0 {
			t.Fatal(out.Stderr)
		}
		return out.Stderr
	}
	build("RUN --mount=type=cache,id=x,target=/c mkdir -p /c/d" + canary + " && ln -s / /c/l && touch /c/d/real\n")
	caches, err := filepath.Glob(filepath.Join(m.Root, "mounts", "*", "data"))
	if err != nil || len(caches) != 1 {
		t.Fatalf("caches: %v, %v", caches, err)
	}
	stop := swapping(t, caches[0], "d", "l")
	defer stop()
	var steps strings.Builder
	for i := range escapeTries {
		look := fmt.Sprintf("if [ -e /m/real ]; then echo $((2*21)) directory; else echo $((2*21)) link; fi; touch /m%s/escaped || true", canary)
		fmt.Fprintf(&steps, "RUN --mount=type=cache,id=x,source=d,target=/m --mount=type=cache,id=x,target=/c --mount=type=tmpfs,target=/c/d%s/made-%d %s\n", canary, i, look)
	}
	log := build(steps.String())
	if n := strings.Count(log, " 42 directory\n"); n == 0 || n == escapeTries {
		t.Errorf("%d of %d steps met the directory: the race is not tested", n, escapeTries)
	}
	if left, err := os.ReadDir(canary); err != nil || len(left) > 0 {
		t.Errorf("steps reached the host: %v, %v", left, err)
	}
}

// swapping exchanges two names in a directory until it is stopped.
func swapping(t *testing.T, dir, a, b string) (stop func()) {
	t.Helper()
	a, b = filepath.Join(dir, a), filepath.Join(dir, b)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Errorf("swap: %v", err)
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}
