package engineapi

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// copyIn copies a tar with one file into a container.
func (r *rig) copyIn(id, dir, name string) error {
	_, err := r.CopyToContainer(r.t.Context(), id, client.CopyToContainerOptions{DestinationPath: dir, Content: bytes.NewReader(archive(r.t, name, "text"))})
	return err
}

// TestRootCopyMounts: files are copied to where a process of the container finds them, by links and in volumes, whether it runs or not.
func TestRootCopyMounts(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	bind := t.TempDir()
	for name, to := range map[string]string{"absolute": "/data", "host": "../../../../../../../../../../f"} {
		if err := os.Symlink(to, filepath.Join(bind, name)); err != nil {
			t.Fatal(err)
		}
	}
	o := script("ln -s /data /link; ln -s /etc /data/etc; mkdir -p /etc; echo ready; exec sleep 1000")
	o.HostConfig.Binds = append(o.HostConfig.Binds, "copied:/data", bind+":/bind", "fixed:/fixed:ro")
	o.HostConfig.Tmpfs = map[string]string{"/memory": ""}
	id := r.create("mounts", o)
	for _, state := range []string{"created", "running"} {
		if state == "running" {
			out := r.attach(id, client.ContainerAttachOptions{Stdout: true})
			r.start(id)
			if _, err := io.ReadFull(out.Reader, make([]byte, len("12345678ready\n"))); err != nil {
				t.Fatal(err)
			}
		}
		places := map[string]string{"/data/" + state: "/"}
		places["/bind/absolute/by-bind-"+state] = "/"
		if state == "running" {
			places["/link/by-link"], places["/data/etc/by-volume"] = "/", "/data/.."
		}
		for name, dir := range places {
			if err := r.copyIn(id, dir, strings.TrimPrefix(name, "/")); err != nil {
				t.Errorf("%s: %s: %v", state, name, err)
			}
			got, err := r.CopyFromContainer(t.Context(), id, client.CopyFromContainerOptions{SourcePath: name})
			if err != nil {
				t.Errorf("%s: %s: %v", state, name, err)
				continue
			}
			if names := tarNames(t, got.Content); !slices.Equal(names, []string{filepath.Base(name)}) {
				t.Errorf("%s: %s: %v", state, name, names)
			}
		}
		for name, want := range map[string]string{"/bind/absolute": "/data", "/bind/host": "/f"} {
			if got, err := r.ContainerStatPath(t.Context(), id, client.ContainerStatPathOptions{Path: name}); err != nil || got.Stat.LinkTarget != want {
				t.Errorf("%s: %+v, %v", name, got.Stat, err)
			}
		}
		if err := r.copyIn(id, "/fixed", "f"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "mounted volume is marked read-only") {
			t.Errorf("a volume for reading: %v", err)
		}
		if err := r.copyIn(id, "/", "fixed/f"); err == nil || !strings.Contains(err.Error(), "read-only file system") {
			t.Errorf("below a volume for reading: %v", err)
		}
		if err := r.copyIn(id, "/", "data"); err == nil {
			t.Error("a file has replaced a volume")
		}
	}
	exec, err := r.ExecCreate(t.Context(), id, client.ExecCreateOptions{Cmd: []string{"/bin/sh", "-c", "cat /data/created /data/running /data/by-link /data/by-bind-created /etc/by-volume"}, AttachStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.ExecAttach(t.Context(), exec.ID, client.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if got, bad := split(t, out.Reader); got != strings.Repeat("text", 5) {
		t.Errorf("the process reads %q, %q", got, bad)
	}
}

// TestRootCopyHostile: a process that replaces directories by links, and links by directories, gets and changes nothing of the host.
func TestRootCopyHostile(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "secret"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := script(`mkdir -p ".$1"; mkdir dir; while :; do mv dir was; ln -s "$1" dir; rm dir; ln -s "../../../../../..$1" dir; rm dir; mv was dir; done`)
	o.Config.Cmd = append(o.Config.Cmd, "sh", host)
	o.HostConfig.Binds = append(o.HostConfig.Binds, "swapped:/work")
	o.Config.WorkingDir = "/work"
	id := r.create("hostile", o)
	r.start(id)
	for range 100 {
		_ = r.copyIn(id, "/work", "dir/planted") // it may fail, but not succeed elsewhere
		_ = r.copyIn(id, "/work/dir", "planted")
		if got, err := r.CopyFromContainer(t.Context(), id, client.CopyFromContainerOptions{SourcePath: "/work/dir/"}); err == nil {
			if names := tarNames(t, got.Content); slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, "secret") }) {
				t.Fatalf("copied from the host: %v", names)
			}
		}
	}
	if list, err := os.ReadDir(host); err != nil || len(list) != 1 {
		t.Errorf("written to the host: %v, %v", list, err)
	}
}
