package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostTree returns a tree with a program of this host, which is linked to libraries.
func hostTree(t *testing.T, program string) string {
	t.Helper()
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Skipf("ldd %s: %v", program, err)
	}
	tree := t.TempDir()
	for _, word := range append(strings.Fields(string(out)), program) {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		data, err := os.ReadFile(word)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, word)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, word), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// TestWrite: the tar has a program, its libraries by its links, file capabilities, accounts and commands, each directory once and first.
func TestWrite(t *testing.T) {
	t.Parallel()
	tree := hostTree(t, "/bin/cat")
	for name, target := range map[string]string{"usr/bin/newuidmap": "../../bin/link", "bin/link": "/bin/cat"} {
		if err := os.MkdirAll(filepath.Join(tree, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"var/lib/dpkg/info/x.list": "./\n./bin/\n./bin/cat\n", "var/lib/dpkg/status.d/x": "x", "usr/share/doc/x/copyright": "x",
		"var/lib/dpkg/info/y.list": "./\n./bin/\n./bin/tac\n", "var/lib/dpkg/status.d/y": "y", "usr/share/doc/y/copyright": "y",
		"usr/bin/script": "#!/bin/sh\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &closure{tree: tree, files: map[string]bool{}}
	if err := c.addAll([]string{"/usr/bin/newuidmap", "usr/bin/script"}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := &writer{Writer: tar.NewWriter(&out), tree: tree, at: time.Unix(7, 0), made: map[string]bool{}}
	if err := w.write(c.names(), []string{"ls", "cat"}); err != nil {
		t.Fatal(err)
	}
	var names []string
	in := tar.NewReader(&out)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		dir := strings.TrimSuffix(filepath.Dir(strings.TrimSuffix(h.Name, "/")), "/") + "/"
		if dir != "./" && !slices.Contains(names, dir) || slices.Contains(names, h.Name) || h.ModTime.Unix() != 7 {
			t.Errorf("entry %+v after %q", h, names)
		}
		if h.Typeflag == tar.TypeDir && h.Mode&0o777 != 0o777 {
			t.Errorf("directory %s: a pod of another user cannot write to it, mode %o", h.Name, h.Mode)
		}
		if h.Name == "./" && h.Uid != uid {
			t.Errorf("the root directory belongs to %d", h.Uid)
		}
		names = append(names, h.Name)
	}
	for _, want := range []string{"usr/bin/newuidmap", "bin/link", "bin/cat", "etc/subuid", "usr/share/doc/x/copyright", "var/lib/dpkg/status.d/x", "usr/bin/script", "busybox/ls", "bin/sh", "home/mica/"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s in %q", want, names)
		}
	}
	for _, other := range []string{"usr/share/doc/y/copyright", "var/lib/dpkg/status.d/y"} {
		if slices.Contains(names, other) {
			t.Errorf("%s is of a package of which nothing is in the image", other)
		}
	}
	if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(filepath.Base(n), "libc.so") }) {
		t.Errorf("no library in %q", names)
	}
}

// TestCapabilities: a file that is no link gets its capability.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "usr/bin/newgidmap"), []byte("x"), 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := &writer{Writer: tar.NewWriter(&out), tree: tree, at: time.Unix(7, 0), made: map[string]bool{"usr": true, "usr/bin": true}}
	if err := w.file("usr/bin/newgidmap"); err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(&out).Next()
	if err != nil || h.Mode != 0o755 || len(h.PAXRecords["SCHILY.xattr.security.capability"]) != 20 {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestClosureFails: a program that is missing, or no program, is an error.
func TestClosureFails(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "text"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop", filepath.Join(tree, "loop")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"missing", "text", "../../../../etc/passwd"} {
		c := &closure{tree: tree, files: map[string]bool{}}
		if err := c.addAll([]string{name}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
