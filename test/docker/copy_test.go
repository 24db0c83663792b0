//go:build e2e

package docker

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// tarWith is a tar of one file.
func tarWith(t *testing.T, name string) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(name))})
	if err == nil {
		_, err = io.WriteString(w, name)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// TestServeCopyInVolumesEqualsDockers: docker cp finds the files of volumes and binds, by links too, as its own engine does.
func TestServeCopyInVolumesEqualsDockers(t *testing.T) {
	s := newRunner(t)
	bind := rig.TempDir(t)
	for name, to := range map[string]string{"absolute": "/etc/x", "relative": "../etc/x", "nowhere": "/data/none"} {
		if err := os.Symlink(to, filepath.Join(bind, name)); err != nil {
			t.Fatal(err)
		}
	}
	const mounts = "-v data:/data -v fixed:/fixed:ro --tmpfs /memory -v "
	create := "--network none " + mounts + bind + ":/bind run-base sh -c "
	s.hears(words("volume create data", "volume create fixed", "run -d --name web "+create+"mkdir~-p~/etc;echo~X>/etc/x;ln~-s~/data~/link;ln~-s~/etc/x~/data/absolute;touch~/ready;exec~sleep~1000",
		"exec web sh -c while~!~test~-e~/ready;do~sleep~0.02;done", "create --name idle "+create+"exec~sleep~1000")...)
	for _, name := range []string{"web", "idle"} {
		for _, at := range [][2]string{
			{"data/f-" + name, "/"}, {"link/g-" + name, "/"}, {"h-" + name, "/link/"}, {"i-" + name, "/data"}, {"j", "/fixed"}, {"memory/k", "/"}, {"l", "/memory"}, {"m", "/none"}, {"n", "/data/absolute"},
		} {
			s.hears(talk{tarWith(t, at[0]), []string{"cp", "-", name + ":" + at[1]}})
		}
		s.hears(words("cp "+name+":/link OUT/link-"+name, "cp -L "+name+":/link OUT/followed-"+name, "cp "+name+":/data OUT/data-"+name, "cp "+name+":/link/i-web OUT/i-"+name, "cp -L "+name+":/data/absolute OUT/a-"+name,
			"cp -L "+name+":/bind/absolute OUT/b-"+name, "cp -L "+name+":/bind/relative OUT/c-"+name, "cp -L "+name+":/bind/nowhere OUT/d-"+name, "cp "+name+":/bind OUT/bind-"+name, "cp "+name+":/. OUT/root-"+name)...)
	}
	s.hears(words("exec web find /data /fixed /memory", "run -d --read-only --name fixed --network none -v data:/data run-base sleep 1000", "create --read-only --name shut --network none -v data:/data run-base true")...)
	for _, name := range []string{"fixed", "shut"} {
		for _, at := range [][2]string{{"p-" + name, "/data"}, {"data/q", "/"}, {"r", "/etc"}} {
			s.hears(talk{tarWith(t, at[0]), []string{"cp", "-", name + ":" + at[1]}})
		}
	}
	s.hears(words("exec web ls /data", "rm -fv web idle fixed shut", "volume rm data fixed")...)
	list := func(d *rig.Docker) string { // of the root filesystem, what is in volumes and binds
		return rig.Must(t, "sh", "-euc", `cd "$1"; find . -path './root-*' ! -path './root-*/data*' ! -path './root-*/bind*' -prune -o -printf '%P %y %s %l\n' | grep -v ' d ' | sort`, "sh", s.out[d])
	}
	if want, got := list(engine), list(s.docker); want != got {
		t.Errorf("copied:\n%s\nwant:\n%s", got, want)
	}
}
