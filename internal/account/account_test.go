package account

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// accountsRoot makes a root directory with files in its /etc.
func accountsRoot(t *testing.T, files map[string]string) (string, int) {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		writeFile(t, filepath.Join(root, "etc", name), text)
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return root, fd
}

// HOME is what the passwd file says of an id, else the root: always something.
func TestHome(t *testing.T) {
	_, root := accountsRoot(t, map[string]string{"passwd": "root:x:0:0:root:/root:/bin/sh\nbare:x:7:7:::\n"})
	_, empty := accountsRoot(t, nil)
	for _, c := range []struct {
		root int
		uid  uint32
		want string
	}{{root, 0, "/root"}, {root, 7, "/"}, {root, 4242, "/"}, {empty, 0, "/"}} {
		if got := homeOf(c.root, c.uid); got != c.want {
			t.Errorf("%d: %q, want %q", c.uid, got, c.want)
		}
	}
}

// What an image has in the place of its account files is never waited for and never read without end, and nobody by name is
// found there; ids that are numbers need no file.
func TestOddAccountFiles(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"link to a device": func(p string) error { return os.Symlink("/dev/zero", p) },
		"pipe":             func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory":        func(p string) error { return os.Mkdir(p, 0o755) },
		"huge": func(p string) error {
			return os.WriteFile(p, nil, 0o600)
		},
		"link out of the root": func(p string) error { return os.Symlink("../../../../../../etc/passwd", p) },
	} {
		t.Run(name, func(t *testing.T) {
			root, fd := accountsRoot(t, nil)
			for _, file := range []string{"passwd", "group"} {
				path := filepath.Join(root, "etc", file)
				if err := make(path); err != nil {
					t.Fatal(err)
				}
				if name == "huge" {
					if err := os.Truncate(path, 1<<34); err != nil {
						t.Fatal(err)
					}
				}
			}
			if id, err := Lookup(root, "12", nil); err != nil || id.UID != 12 {
				if name != "huge" { // its first line has no end: the parser says so
					t.Errorf("a number: %v %v", id, err)
				}
			}
			if _, err := Lookup(root, "somebody", nil); err == nil {
				t.Error("somebody is found")
			}
			if got := homeOf(fd, 0); got != "/" {
				t.Errorf("HOME is %q", got)
			}
		})
	}
}

// Groups beside the user's own: an empty name is nobody's.
func TestGroups(t *testing.T) {
	root, _ := accountsRoot(t, map[string]string{"group": "root:x:0:\nstaff:x:50:\n"})
	if id, err := Lookup(root, "1:2", []string{"staff", "99"}); err != nil || !bytes.Equal(asBytes(id.Groups), []byte{50, 99}) {
		t.Errorf("%v %v", id, err)
	}
	for _, group := range []string{"", "nosuch", ":", "-1"} {
		if _, err := Lookup(root, "1:2", []string{group}); err == nil {
			t.Errorf("group %q is found", group)
		}
	}
}

func asBytes(groups []uint32) []byte {
	var b []byte
	for _, g := range groups {
		b = append(b, byte(g))
	}
	return b
}

// Whether a user may execute a file depends on whose it is; root may what anybody may.
func TestMayExecute(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	writeFile(t, path, "")
	owner := IDs{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	stranger := IDs{UID: 70001, GID: 70001}
	member := IDs{UID: 70001, GID: 70001, Groups: []uint32{owner.GID}}
	for _, c := range []struct {
		mode                  os.FileMode
		root, stranger, group bool
	}{
		{0o644, false, false, false}, {0o700, true, false, false}, {0o710, true, false, true}, {0o701, true, true, false}, {0o755, true, true, true},
	} {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for who, is := range map[string][2]bool{
			"root":     {(&IDs{}).MayExecute(info), c.root},
			"owner":    {owner.MayExecute(info), c.mode&0o100 != 0},
			"stranger": {stranger.MayExecute(info), c.stranger},
			"member":   {member.MayExecute(info), c.group},
		} {
			if is[0] != is[1] {
				t.Errorf("%s, mode %o: %t", who, c.mode, is[0])
			}
		}
	}
}
