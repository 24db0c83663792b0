package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// initVariable makes the test binary call Init, as mica's main does.
const initVariable = "MICA_TEST_USERNS_INIT"

func TestMain(m *testing.M) {
	if os.Getenv(initVariable) == "" {
		os.Exit(m.Run())
	}
	Init(os.Args)
	_, marked := os.LookupEnv(parentMarker)
	fmt.Printf("%v marked %t", os.Args, marked)
	for _, f := range activation.Files(false) {
		data, err := io.ReadAll(f)
		fmt.Printf(" passed %q %v", data, err)
	}
}

func TestInit(t *testing.T) {
	t.Parallel()
	staged, stagedErr := "[mica build .] marked false", ""
	passed := staged + ` passed "socket" <nil>`
	if os.Geteuid() != 0 {
		staged, passed, stagedErr = "", "", "ERROR: enter user namespace: ids were not mapped\n"
	}
	parent := fmt.Sprintf("%s=%d", parentMarker, os.Getpid())
	for name, test := range map[string]struct {
		args     []string
		env      string
		out, err string
		code     int
		socket   string // the content of a file that systemd has passed
	}{
		"without Enter":      {args: []string{"mica", "build"}, out: "[mica build] marked false"},
		"parent is alive":    {args: []string{"mica"}, env: parent, out: "[mica] marked false"},
		"parent has ended":   {args: []string{"mica"}, env: parentMarker + "=1", code: 1},
		"marker is not ours": {args: []string{"mica"}, env: parentMarker + "=x", out: "[mica] marked true"},
		"new namespace":      {args: []string{stageName, "build", "."}, env: parent, out: staged, err: stagedErr, code: map[bool]int{true: 1}[stagedErr != ""]},
		"systemd's sockets":  {args: []string{stageName, "build", "."}, env: parent, out: passed, err: stagedErr, code: map[bool]int{true: 1}[stagedErr != ""], socket: "socket"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			_ = write.Close()
			defer func() { _ = read.Close() }()
			var out, stderr strings.Builder
			cmd := exec.Command("/proc/self/exe")
			cmd.Args, cmd.Env, cmd.ExtraFiles = test.args, append(os.Environ(), initVariable+"=1", stageVariable+"=0"), []*os.File{read}
			if test.socket != "" {
				cmd.Env = append(cmd.Env, stageVariable+"=1", "LISTEN_FDS=1", "LISTEN_PID=1")
				cmd.ExtraFiles = []*os.File{content(t, test.socket), read}
			}
			cmd.Stdout, cmd.Stderr = &out, &stderr
			if test.env != "" {
				cmd.Env = append(cmd.Env, test.env)
			}
			var exit *exec.ExitError
			if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if out.String() != test.out || stderr.String() != test.err || cmd.ProcessState.ExitCode() != test.code {
				t.Errorf("%q, %q, exit code %d", out.String(), stderr.String(), cmd.ProcessState.ExitCode())
			}
		})
	}
}

// content returns a file that ends after a text.
func content(t *testing.T, text string) *os.File {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = read.Close() })
	if _, err := write.WriteString(text); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	return read
}

// TestSupervise returns the exit code of a process as a shell does, and forwards signals.
func TestSupervise(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script string
		signal os.Signal
		want   int
	}{
		"success":   {"exit 0", nil, 0},
		"failure":   {"exit 3", nil, 3},
		"killed":    {"kill -KILL $$", nil, 128 + 9},
		"forwarded": {"read line", unix.SIGTERM, 128 + 15},
		"user's":    {"read line", unix.SIGUSR1, 128 + 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("/bin/sh", "-c", test.script)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = in.Close() }()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			signals := make(chan os.Signal, 1)
			if test.signal != nil {
				signals <- test.signal
			}
			if got := supervise(cmd, signals); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}
}

// helper makes a program in a directory.
func helper(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestWriteMaps(t *testing.T) {
	plan := &mapPlan{uids: []idRange{{0, 1000, 1}, {1, 200000, 10}}, gids: []idRange{{0, 100, 1}, {1, 300000, 10}}}
	const log = `echo "$(basename "$0") $*" >> "$(dirname "$0")/log"`
	for name, test := range map[string]struct {
		plan    *mapPlan
		helpers map[string]string
		want    []string // calls
		err     string
	}{
		"ranges": {plan, map[string]string{"newuidmap": log, "newgidmap": log}, []string{"newgidmap 7 0 100 1 1 300000 10", "newuidmap 7 0 1000 1 1 200000 10"}, ""},
		"own":    {&mapPlan{}, nil, nil, ""},
		"none":   {plan, nil, nil, "map is missing: install the package uidmap"},
		"refused": {
			plan, map[string]string{"newuidmap": "echo range not allowed >&2; exit 1", "newgidmap": log}, nil, "newuidmap: exit status 1: range not allowed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for h, script := range test.helpers {
				helper(t, dir, h, script)
			}
			t.Setenv("PATH", dir+":/usr/bin:/bin")
			if len(test.helpers) == 0 {
				t.Setenv("PATH", dir)
			}
			err := test.plan.write(7)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %s", err, test.err)
				}
				return
			}
			data, _ := os.ReadFile(filepath.Join(dir, "log"))
			calls := slices.Sorted(strings.Lines(string(data)))
			for i := range calls {
				calls[i] = strings.TrimSpace(calls[i])
			}
			if err != nil || !slices.Equal(calls, test.want) {
				t.Errorf("%q, %v", calls, err)
			}
		})
	}
}

func TestIsRealRoot(t *testing.T) {
	root := os.Geteuid() == 0
	if IsRealRoot() != (root && Has(unix.CAP_SYS_ADMIN)) || IsNamedRoot() != root {
		t.Errorf("user %d: %t, %t", os.Geteuid(), IsRealRoot(), IsNamedRoot())
	}
	t.Setenv(marker, "1000")
	if IsRealRoot() || IsNamedRoot() {
		t.Error("root of a user namespace is root of the host")
	}
	t.Setenv(marker, "0")
	if IsRealRoot() || !IsNamedRoot() {
		t.Error("root of a container is root of the host, or has another name")
	}
}
