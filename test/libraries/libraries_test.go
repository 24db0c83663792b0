//go:build e2e

// Package libraries runs programs that use Docker's API by its Go client against mica's socket: dive, and the tests of test/clients/libraries,
// a module of its own.
package libraries

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// users runs a test with a client of mica's socket and the image base, as root and as an ordinary user.
func users(t *testing.T, test func(*testing.T, *rig.Client)) {
	for _, who := range []string{"root", "user"} {
		t.Run(who, func(t *testing.T) {
			m, dir := rig.NewMica(t), rig.TempDir(t)
			if who == "user" {
				m = rig.AsUser(t, "mica-libraries", true)
				dir = filepath.Dir(m.Path)
			}
			rig.ImportBusybox(t, m, "base")
			c := rig.NewClient(t, rig.Serve(t, m, dir), dir)
			if who == "user" {
				c.As(m)
			}
			test(t, c)
		})
	}
}

// TestLibraries: testcontainers-go and Docker's Go client. Ryuk, which would end what a killed test leaves, is an image that is not here.
func TestLibraries(t *testing.T) {
	users(t, func(t *testing.T, docker *rig.Client) {
		docker.Env = append(docker.Env, "TESTCONTAINERS_RYUK_DISABLED=true", "TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1")
		if out := rig.Run(t, docker.Program("libraries.test", "-test.v")); out.Code != 0 {
			t.Errorf("%s%s", out.Stdout, out.Stderr)
		}
	})
}

// TestDive: dive finds what an image wastes, and its exit code says whether that is too much.
func TestDive(t *testing.T) {
	users(t, judge)
}

func judge(t *testing.T, docker *rig.Client) {
	for name, text := range map[string]string{
		"lean":   "FROM base\nRUN echo once >/file\n",
		"wasted": "FROM base\nRUN head -c 3000000 /dev/zero >/big\nRUN rm /big\n",
	} {
		cmd := docker.Command("build", "-t", name, "-")
		cmd.Stdin = strings.NewReader(text)
		if out := rig.Run(t, cmd); out.Code != 0 {
			t.Fatalf("build %s: %s", name, out.Stderr)
		}
	}
	if out := rig.Run(t, docker.Program("dive", "--ci", "lean")); out.Code != 0 || !strings.Contains(out.Stdout, "wastedBytes: 0 bytes") {
		t.Errorf("lean: exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	out := rig.Run(t, docker.Program("dive", "--ci", "wasted"))
	if out.Code != 1 || !strings.Contains(out.Stdout, "wastedBytes: 3000000 bytes") || !strings.Contains(out.Stdout, "3.0 MB  /big\n") {
		t.Errorf("wasted: exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
}
