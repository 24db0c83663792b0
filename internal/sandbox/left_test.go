package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The runtime mounts what lies in /proc, /dev and /sys, but resolves no path in a directory that other processes write to.
func TestLeftToRuntime(t *testing.T) {
	shared := func(target string) Mount { return Mount{Target: target, Shared: true} }
	for _, c := range []struct {
		name   string
		links  map[string]string
		mounts []Mount
		left   string
		err    string
	}{
		{name: "elsewhere", mounts: []Mount{shared("/m"), {Target: "/m/sub"}, {Target: "/devel"}}, left: "---"},
		{name: "in dev", mounts: []Mount{shared("/dev/shm"), {Target: "dev/a"}, {Target: "/sys"}}, left: "LLL"},
		{name: "link into dev", links: map[string]string{"x": "/dev/x"}, mounts: []Mount{shared("/x")}, left: "L"},
		{name: "below own", mounts: []Mount{{Target: "/dev/a"}, shared("/dev/a/b")}, left: "LL"},
		{name: "dev itself", mounts: []Mount{shared("/dev")}, err: "/dev/pts lies in it"},
		{name: "below shared", mounts: []Mount{shared("/dev/a"), {Target: "/dev/a/b/c"}}, err: "/dev/a/b/c lies in it"},
		{name: "below a link", links: map[string]string{"x": "dev/a"}, mounts: []Mount{{Target: "/x/b"}, shared("/dev/a")}, err: "/x/b lies in it"},
		{name: "dev is a link", links: map[string]string{"dev": "m/d"}, mounts: []Mount{shared("/m")}, err: "/dev is a symlink"},
		{name: "dev is a link, nothing shared", links: map[string]string{"dev": "m/d"}, mounts: []Mount{{Target: "/m"}}, left: "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bundle{rootfs: t.TempDir(), p: &Process{Mounts: c.mounts}}
			for name, to := range c.links {
				if err := os.Symlink(to, filepath.Join(b.rootfs, name)); err != nil {
					t.Fatal(err)
				}
			}
			left, err := b.leftToRuntime()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %s", err, c.err)
				}
				return
			}
			got := ""
			for _, l := range left {
				got += map[bool]string{true: "L", false: "-"}[l]
			}
			if err != nil || got != c.left {
				t.Errorf("left %s, %v; want %s", got, err, c.left)
			}
		})
	}
}
