package account

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// Files of an image that are not account files are neither waited for nor read without end. No name is found in them; numbers
// need no file.
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

// Groups beside the user's own: an empty name is not a group.
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

const (
	passwdText = "root:x:0:0:root:/root:/bin/sh\nmica:x:1000:100:Mica,,,:/home/mica:/bin/sh\n\nbroken\n# comment\n1001:x:7:8::/odd:/bin/sh\ntwice:x:20:20::/a:\ntwice:x:21:21::/b:\n"
	groupText  = "root:x:0:\nusers:x:100:\nstaff:x:50:mica,other\naudio:x:29:mica\n1002:x:30:\nempty:x:31:\n"
)

// The grammar of --user: a name or id, and a group's name or id after a colon.
func TestLookup(t *testing.T) {
	t.Parallel()
	root, _ := accountsRoot(t, map[string]string{"passwd": passwdText, "group": groupText})
	for name, want := range map[string]string{
		"":                      "0:0 []",
		"root":                  "0:0 []",
		"0":                     "0:0 []",
		"mica":                  "1000:100 [50 29]",
		"1000":                  "1000:100 [50 29]",
		"mica:staff":            "1000:50 []",
		"mica:7":                "1000:7 []",
		"1000:100":              "1000:100 []",
		"4242":                  "4242:0 []",
		"4242:staff":            "4242:50 []",
		"4242:4343":             "4242:4343 []",
		":staff":                "0:50 []",
		"1001":                  "1001:0 []", // a number is an id, though a user has it for a name
		"mica:1002":             "1000:1002 []",
		"twice":                 "20:20 []",
		"2147483647":            "2147483647:0 []",
		"mica:":                 "1000:100 [50 29]",
		"0:2147483647":          "0:2147483647 []",
		"4294967294:2147483648": "4294967294:2147483648 []", // as BuildKit, which looks nothing up for two numbers
	} {
		id, err := Lookup(root, name, nil)
		if got := fmt.Sprintf("%d:%d %d", id.UID, id.GID, id.Groups); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"nobody":       "unable to find user nobody: no matching entries in passwd file",
		"mica:nosuch":  "unable to find group nosuch: no matching entries in group file",
		"-1":           "uids and gids must be in range 0-2147483647",
		"2147483648":   "uids and gids must be in range 0-2147483647",
		"a:b:c":        "unable to find user a: no matching entries in passwd file",
		"mica:users:x": "unable to find group users:x",
	} {
		if id, err := Lookup(root, name, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %s", name, id, err, want)
		}
	}
	if _, err := Lookup(filepath.Join(root, "missing"), "mica", nil); err == nil || !strings.HasPrefix(err.Error(), "read /etc/passwd: ") {
		t.Errorf("without a root: %v", err)
	}
}

// An image without account files has ids, but no names.
func TestLookupWithoutFiles(t *testing.T) {
	t.Parallel()
	root, _ := accountsRoot(t, nil)
	for name, want := range map[string]string{"": "0:0", "0": "0:0", "12": "12:0", "12:13": "12:13"} {
		if id, err := Lookup(root, name, nil); err != nil || fmt.Sprintf("%d:%d", id.UID, id.GID) != want {
			t.Errorf("%q: %+v, %v", name, id, err)
		}
	}
	for _, name := range []string{"root", "12:root", "root:0"} {
		if id, err := Lookup(root, name, nil); err == nil {
			t.Errorf("%q: %+v", name, id)
		}
	}
}

// The primary group is among the supplementary ones, once (CVE-2022-36109).
func TestSupplementary(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id   IDs
		want []uint32
	}{
		{IDs{}, []uint32{0}},
		{IDs{GID: 7, Groups: []uint32{8, 9}}, []uint32{7, 8, 9}},
		{IDs{GID: 8, Groups: []uint32{7, 8}}, []uint32{7, 8}},
	} {
		if got := c.id.Supplementary(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %d, want %d", c.id, got, c.want)
		}
	}
}

func TestWithHome(t *testing.T) {
	t.Parallel()
	root, _ := accountsRoot(t, map[string]string{"passwd": passwdText})
	for _, c := range []struct {
		env  []string
		uid  uint32
		want string
	}{
		{nil, 0, "HOME=/root"},
		{[]string{"A=b"}, 1000, "A=b HOME=/home/mica"},
		{[]string{"HOME=/mine", "A=b"}, 1000, "HOME=/mine A=b"},
		{[]string{"HOME=", "A=b"}, 1000, "A=b HOME=/home/mica"},
		{[]string{"HOMES=x"}, 4242, "HOMES=x HOME=/"},
	} {
		before := slices.Clone(c.env)
		got, err := WithHome(c.env, root, c.uid)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%q: %q, %v; want %s", c.env, got, err, c.want)
		}
		if !slices.Equal(c.env, before) {
			t.Errorf("the environment became %q", c.env)
		}
	}
	if _, err := WithHome(nil, filepath.Join(root, "missing"), 0); err == nil {
		t.Error("a root that is missing has a home")
	}
}

// A runtime that reads whole files must not meet files without an end.
func TestCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(etc string) error
		want string
	}{
		"none":              {func(string) error { return nil }, ""},
		"usual":             {func(etc string) error { return os.WriteFile(etc+"/passwd", []byte(passwdText), 0o600) }, ""},
		"a pipe":            {func(etc string) error { return unix.Mkfifo(etc+"/group", 0o600) }, "/etc/group: it is not a regular file"},
		"a directory":       {func(etc string) error { return os.Mkdir(etc+"/passwd", 0o755) }, "/etc/passwd: it is not a regular file"},
		"a link to /proc":   {func(etc string) error { return os.Symlink("/proc/kmsg", etc+"/passwd") }, "/etc/passwd: it is not a regular file"},
		"a link to /dev":    {func(etc string) error { return os.Symlink("../../../dev/zero", etc+"/group") }, "/etc/group: it is not a regular file"},
		"a link to nowhere": {func(etc string) error { return os.Symlink("none", etc+"/passwd") }, ""},
		"a large file": {func(etc string) error {
			return errors.Join(os.WriteFile(etc+"/passwd", nil, 0o600), os.Truncate(etc+"/passwd", maxAccounts+1))
		}, "/etc/passwd: it is larger than 10 MiB"},
		"one of the limit": {func(etc string) error {
			return errors.Join(os.WriteFile(etc+"/passwd", nil, 0o600), os.Truncate(etc+"/passwd", maxAccounts))
		}, ""},
		"a link in a circle": {func(etc string) error { return os.Symlink("passwd", etc+"/passwd") }, "too many levels of symbolic links"},
		"etc is a file":      {func(etc string) error { return errors.Join(os.Remove(etc), os.WriteFile(etc, nil, 0o600)) }, ""},
	} {
		root, _ := accountsRoot(t, nil)
		if err := c.make(filepath.Join(root, "etc")); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := Check(root); err != nil {
			got = err.Error()
		}
		if got != c.want && (c.want == "" || !strings.HasSuffix(got, c.want)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
