//go:build e2e

// Package libraries runs the tests of test/clients/libraries, a module of its own, against mica's socket.
package libraries

import (
	"os"
	"os/exec"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestLibraries: testcontainers-go and Docker's Go client. Ryuk, which would end what a killed test leaves, is an image that is not here.
func TestLibraries(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	cmd := exec.Command(rig.Binary(t, "clients/libraries.test"), "-test.v")
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+rig.Serve(t, m, rig.TempDir(t)), "TESTCONTAINERS_RYUK_DISABLED=true", "TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1")
	if out := rig.Run(t, cmd); out.Code != 0 {
		t.Errorf("%s%s", out.Stdout, out.Stderr)
	}
}
