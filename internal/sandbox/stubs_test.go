package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sourced makes the sources of the mounts in the bundle: a file if the mount's Source ends with "file", else a directory.
func (b *bundle) sourced(t *testing.T) {
	t.Helper()
	for i, m := range b.p.Mounts {
		if m.Type == MountTmpfs {
			continue
		}
		b.sources[i] = filepath.Join(b.dir, fmt.Sprintf("source-%d", i))
		var err error
		if strings.HasSuffix(m.Source, "file") {
			err = os.WriteFile(b.sources[i], nil, 0o600)
		} else {
			err = os.Mkdir(b.sources[i], 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The lowest layer has a mount point for every mount, so that none is made in the upper directory.
func TestMakeStubs(t *testing.T) {
	t.Parallel()
	const always = "dev/ etc/ etc/hosts etc/resolv.conf proc/ sys/"
	for name, c := range map[string]struct {
		p          Process
		want, fail string
	}{
		"none":           {Process{}, always, ""},
		"in a container": {Process{WritableHosts: true}, "dev/ etc/ etc/hostname etc/hosts etc/resolv.conf proc/ sys/", ""},
		"mounts": {Process{Mounts: []Mount{{Target: "/a/b"}, {Target: "c", Source: "file"}, {Target: "/../t", Type: MountTmpfs}}},
			"a/ a/b/ c dev/ etc/ etc/hosts etc/resolv.conf proc/ sys/ t/", ""},
		"on each other":     {Process{Mounts: []Mount{{Target: "/a"}, {Target: "/a/b", Source: "file"}}}, "a/ a/b " + always, ""},
		"twice":             {Process{Mounts: []Mount{{Target: "/a", Source: "file"}, {Target: "/a", Source: "file"}}}, "a " + always, ""},
		"a file on a tree":  {Process{Mounts: []Mount{{Target: "/a/b"}, {Target: "/a", Source: "file"}}}, "a/ a/b/ " + always, ""},
		"below a file":      {Process{Mounts: []Mount{{Target: "/a", Source: "file"}, {Target: "/a/b"}}}, "a " + always, "mount target /a/b: not a directory"},
		"on hosts":          {Process{Mounts: []Mount{{Target: "/etc/hosts", Source: "file"}}}, always, ""},
		"a tree on hosts":   {Process{Mounts: []Mount{{Target: "/etc/hosts"}}}, always, "mount target /etc/hosts: not a directory"},
		"the kernel's tree": {Process{Mounts: []Mount{{Target: "/dev/x", Source: "file"}}}, "dev/ dev/x etc/ etc/hosts etc/resolv.conf proc/ sys/", ""},
	} {
		b := newBundle(t, &c.p, nil)
		b.sourced(t)
		stubs := filepath.Join(b.dir, "stubs")
		got := ""
		if err := b.makeStubs(stubs); err != nil {
			got = err.Error()
		}
		if made := fileTree(t, stubs); got != c.fail || made != c.want {
			t.Errorf("%s: %s with %q, want %s with %q", name, made, got, c.want, c.fail)
		}
	}
	b := newBundle(t, &Process{Mounts: []Mount{{Target: "/t", Type: MountTmpfs}, {Target: "/d"}}}, nil)
	b.sourced(t)
	stubs := filepath.Join(b.dir, "stubs")
	if err := b.makeStubs(stubs); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"t": os.ModeDir | os.ModeSticky | 0o777, "d": os.ModeDir | 0o755} {
		if info, err := os.Stat(filepath.Join(stubs, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
}

// A directory goes on a directory and a file on a file, as the image has them.
func TestCheckTargets(t *testing.T) {
	t.Parallel()
	files := map[string]string{"dir/x": "", "file": "", "link": "->dir", "to-file": "->../../file", "broken": "->none"}
	for _, c := range []struct {
		mounts []Mount
		want   string
	}{
		{[]Mount{{Target: "/dir"}}, ""},
		{[]Mount{{Target: "/file", Source: "file"}}, ""},
		{[]Mount{{Target: "/none"}, {Target: "/none2", Source: "file"}}, ""},
		{[]Mount{{Target: "/link"}}, ""},
		{[]Mount{{Target: "/link/x", Source: "file"}}, ""},
		{[]Mount{{Target: "/to-file", Source: "file"}}, ""},
		{[]Mount{{Target: "/broken"}}, ""},
		{[]Mount{{Target: "/file"}}, "mount target /file: not a directory"},
		{[]Mount{{Target: "/to-file"}}, "mount target /to-file: not a directory"},
		{[]Mount{{Target: "/dir", Source: "file"}}, "mount target /dir: is a directory"},
		{[]Mount{{Target: "/file/x"}}, "mount target /file/x: not a directory"},
		{[]Mount{{Target: "/dir", Type: MountTmpfs}}, ""},
		{[]Mount{{Target: "/file", Type: MountTmpfs}}, "mount target /file: not a directory"},
		{[]Mount{{Target: "/dir"}, {Target: "/dir/x"}}, ""},  // the other mount covers the file
		{[]Mount{{Target: "/link"}, {Target: "/dir/x"}}, ""}, // also by another name
	} {
		b := newBundle(t, &Process{Mounts: c.mounts}, files)
		b.sourced(t)
		got := ""
		if err := b.checkTargets(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.mounts, got, c.want)
		}
	}
}

// Mount points that a runtime has made are removed after the run, unless the process has used them. What the image has stays.
func TestStubCleaner(t *testing.T) {
	t.Parallel()
	mounts := []Mount{{Target: "/new/deep"}, {Target: "/kept/x"}, {Target: "/used/x"}, {Target: "/file", Source: "file"}, {Target: "/lost/x"}, {Target: "/link/z"}}
	b := newBundle(t, &Process{Mounts: mounts}, map[string]string{"kept/y": "", "etc/hosts": "", "link": "->kept", "out/": ""})
	b.sourced(t)
	clean := b.stubCleaner()
	for _, m := range b.mountPoints() {
		if m.target == "/lost/x" {
			continue
		}
		if err := m.makeStub(filepath.Join(b.rootfs, m.target)); err != nil {
			t.Fatal(err)
		}
	}
	// The process writes below a mount point of its own, and replaces another by a link.
	if err := os.WriteFile(filepath.Join(b.rootfs, "used/x/y"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(b.rootfs, "out/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("out", filepath.Join(b.rootfs, "lost")); err != nil {
		t.Fatal(err)
	}
	clean()
	if got, want := fileTree(t, b.rootfs), "etc/ etc/hosts kept/ kept/y link-> lost-> out/ out/x/ used/ used/x/ used/x/y"; got != want {
		t.Errorf("left are %s, want %s", got, want)
	}
	clean() // nothing is left to be removed
}
