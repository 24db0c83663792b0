package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/osv-scalibr/log"
)

// asProgram is set in the environment of this test's binary to run it as mica-catalog.
const asProgram = "TEST_MICA_CATALOG"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	log.SetLogger(silent{})
	os.Exit(m.Run())
}

// program is mica-catalog with arguments.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = []string{asProgram + "=1", "TMPDIR=" + t.TempDir()}
	return cmd
}

// TestMainErrors checks what a user sees who starts the program.
func TestMainErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args           []string
		stdout, stderr string
		code           int
	}{
		{[]string{"--version"}, "mica-catalog, protocol " + protocolVersion + "\n", "", 0},
		{nil, "", "mica-catalog lists packages for mica, which starts it: use mica sbom\n", 2},
		{[]string{"serve", "x"}, "", "mica-catalog lists packages for mica, which starts it: use mica sbom\n", 2},
		{[]string{"serve"}, "", "mica-catalog: descriptors: ", 1},
	} {
		cmd := program(t, c.args...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != c.code || stdout.String() != c.stdout || !strings.HasPrefix(stderr.String(), c.stderr) || strings.Count(stderr.String(), "\n") > 1 {
			t.Errorf("%q: %v, %q, %q", c.args, err, &stdout, &stderr)
		}
	}
}

// TestServe checks the program with the streams that mica gives it.
func TestServe(t *testing.T) {
	t.Parallel()
	m := &mica{files: map[string]string{"n/package.json": `{"name":"a","version":"1"}`, "var/lib/rpm/Packages.db": "RpmP\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00" + strings.Repeat("\x00", 8000)}}
	cmd := program(t, "serve")
	ours, theirs := socketPair(t)
	cmd.ExtraFiles = []*os.File{theirs}
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start(), theirs.Close()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.listen(out, in, ours), cmd.Wait(), ours.Close()); err != nil {
		t.Fatal(err)
	}
	if m.found.find("a") == nil || len(m.found.warnings) != 1 { // of the database, of which the library prints something
		t.Errorf("%+v", m.found)
	}
}

// TestHostError checks that a temporary directory that cannot be written to is no fault of a file.
func TestHostError(t *testing.T) {
	t.Parallel()
	cmd := program(t, "serve")
	cmd.Env = []string{asProgram + "=1", "TMPDIR=" + t.TempDir() + "/gone"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	ours, theirs := socketPair(t)
	cmd.ExtraFiles = []*os.File{theirs}
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start(), theirs.Close()); err != nil {
		t.Fatal(err)
	}
	m := &mica{files: map[string]string{"var/lib/rpm/rpmdb.sqlite": "SQLite format 3\x00"}}
	listenErr := m.listen(out, in, ours)
	err := cmd.Wait()
	if listenErr == nil || err == nil || len(m.found.warnings) > 0 || !strings.HasPrefix(stderr.String(), "mica-catalog: var/lib/rpm/rpmdb.sqlite: ") || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("%v, %v, %q, %q", listenErr, err, m.found.warnings, &stderr)
	}
	_ = ours.Close()
}

// TestEndsWithMica checks that no process is left behind by a mica that was killed.
func TestEndsWithMica(t *testing.T) {
	t.Parallel()
	cmd := program(t, "serve")
	ours, theirs := socketPair(t)
	cmd.ExtraFiles = []*os.File{theirs}
	in, err := cmd.StdinPipe() // which nobody writes to: the program waits for a reply
	if err := errors.Join(err, cmd.Start(), theirs.Close(), ours.Close()); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v", err)
	}
	_ = in.Close()
}
