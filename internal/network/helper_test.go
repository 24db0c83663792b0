package network

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// script writes a program of the shell.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// The reason of a program that fails is its last line.
func TestRunQuoting(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"success":      {"echo noise >&2", ""},
		"a reason":     {"echo first >&2; echo ' the reason ' >&2; echo >&2; exit 1", "the reason"},
		"no reason":    {"exit 3", "exit status 3"},
		"system's log": {"echo reason >&2; echo 'Failed to send 70 bytes to syslog' >&2; exit 1", "reason"},
		// The process in the background keeps stderr open, as pasta does.
		"background": {"echo reason >&2; sleep 60 & echo $! >\"$0.pid\"; exit 1", "reason"},
	} {
		path := script(t, c.text)
		got := ""
		if err := runQuoting(exec.Command(path)); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if pid, err := os.ReadFile(path + ".pid"); err == nil {
			_ = exec.Command("kill", strings.TrimSpace(string(pid))).Run()
		}
	}
	if err := runQuoting(exec.Command("/nosuch")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing program: %v", err)
	}
}

// pasta gets no incoming ports and not the host's loopback, and only the families that the host has.
func TestStartPasta(t *testing.T) {
	t.Parallel()
	v4 := plan{Address4: netip.MustParseAddr("10.0.0.2"), IPv4: true}
	both, v6 := v4, v4
	both.Address6 = netip.MustParseAddr("fd00::2")
	v6.Address6, v6.IPv4 = both.Address6, false
	for name, c := range map[string]struct {
		plan plan
		has  string
		not  string
	}{
		"IPv4":     {v4, "--address 10.0.0.2 --ipv4-only", "--ipv6-only"},
		"both":     {both, "--address 10.0.0.2 --address fd00::2", "-only"},
		"only six": {v6, "--ipv6-only --address fd00::2", "--ipv4-only"},
	} {
		path := script(t, `echo "$*" >"$0.args"; env >"$0.env"; pwd >"$0.dir"`)
		c.plan.Pasta = path
		if err := c.plan.startPasta("/proc/1/ns/net"); err != nil {
			t.Fatal(err)
		}
		read := func(what string) string {
			text, err := os.ReadFile(path + "." + what)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(text))
		}
		args := read("args")
		for _, want := range []string{"--netns /proc/1/ns/net", "--no-map-gw", "-t none -u none -T none -U none", "--ns-ifname uplink", c.has} {
			if !strings.Contains(args, want) {
				t.Errorf("%s: no %s in %s", name, want, args)
			}
		}
		if strings.Contains(args, c.not) {
			t.Errorf("%s: %s", name, args)
		}
		if os.Getenv("HOME") != "" && strings.Contains(read("env"), "HOME=") || read("dir") != "/" {
			t.Errorf("%s: started in %s with %s", name, read("dir"), read("env"))
		}
	}
	p := plan{Pasta: script(t, "echo 'no room' >&2; exit 1"), Address4: v4.Address4}
	if err := p.startPasta("x"); err == nil || err.Error() != "start pasta: no room" {
		t.Errorf("%v", err)
	}
}

// The helper sends two descriptors; other messages are errors, not namespaces.
func TestReceive(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files int
		ok    bool
	}{"none": {0, false}, "one": {1, false}, "two": {2, true}} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		var oob []byte
		if c.files > 0 {
			file, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			oob = unix.UnixRights(slices.Repeat([]int{int(file.Fd())}, c.files)...)
			defer func() { _ = file.Close() }()
		}
		if err := unix.Sendmsg(pair[1], []byte{0}, oob, nil, 0); err != nil {
			t.Fatal(err)
		}
		router, inner, err := receive(pair[0])
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "no namespaces were made") {
			t.Errorf("%s: %v", name, err)
		}
		for _, f := range []*os.File{router, inner} {
			if c.ok && f.Close() != nil {
				t.Errorf("%s: not a descriptor", name)
			}
		}
		_, _ = unix.Close(pair[0]), unix.Close(pair[1])
	}
}

// Root's namespaces belong to nobody, those of an ordinary user to the root of the user namespace.
func TestAttributes(t *testing.T) {
	t.Parallel()
	root := Options{}.attributes()
	if root.Cloneflags != unix.CLONE_NEWUSER || len(root.UidMappings) != 1 || root.UidMappings[0].HostID != nobody || root.GidMappings[0].HostID != nobody || !root.Credential.NoSetGroups {
		t.Errorf("root: %+v", root)
	}
	if user := (Options{Nested: true}).attributes(); user.Cloneflags != 0 || user.UidMappings != nil || user.Credential != nil || !user.Setpgid {
		t.Errorf("an ordinary user: %+v", user)
	}
}

func TestFind(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Find(false); err == nil || err.Error() != "pasta is not on PATH: install the package passt" {
		t.Errorf("%v", err)
	}
}
