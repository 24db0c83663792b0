//go:build e2e

package pods

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/micabuild/mica/test/rig"
)

// level is what a pod may, by its Pod Security standard and its security context (docs/pods.md).
type level struct {
	name       string
	uid        uint32
	users      bool // hostUsers: false
	unmasked   bool // procMount: Unmasked
	unconfined bool // no seccomp profile
	restricted bool // no capabilities, and none can be gained
}

// The levels of docs/pods.md.
var (
	levelA = level{name: "A", users: true, unmasked: true, unconfined: true}
	levelB = level{name: "B", users: true, restricted: true}
	levelC = level{name: "C"}
	levelD = level{name: "D", uid: 1000, restricted: true}
)

// firstUID is the id on the host of the pod's root, where the pod has a user namespace.
const firstUID = 200000

// capabilities are those that containerd gives a container (containerd's oci.WithDefaultUnixCapabilities).
var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
	"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// pod is a container as containerd would start it for a pod. Each command runs in a container of its own, with the same files.
type pod struct {
	t     testing.TB
	level level
	dir   string
	env   []string
	// volumes are mounted beside those of every pod.
	volumes []specs.Mount
	// program is what commands are the arguments of.
	program string
}

// newPod makes a pod whose image is mica with crun. Its directory /work is a volume.
func newPod(t testing.TB, l level) *pod {
	t.Helper()
	p := &pod{t: t, level: l, dir: rig.TempDir(t), program: "/mica/mica"}
	for _, dir := range []string{"rootfs/mica", "rootfs/tmp", "rootfs/etc", "rootfs/proc", "rootfs/sys", "rootfs/dev", "work"} {
		if err := os.MkdirAll(filepath.Join(p.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.install(rig.Binary(t, "mica"))
	p.install("/usr/bin/crun")
	if err := os.WriteFile(filepath.Join(p.dir, "rootfs/mica/image"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// As in mica's image: a pod of another user than root moves files out of all directories.
	rig.Must(t, "find", filepath.Join(p.dir, "rootfs"), "-type", "d", "-exec", "chmod", "777", "{}", "+")
	p.open()
	return p
}

// open gives the files of a pod to its users.
func (p *pod) open() {
	t, l := p.t, p.level
	t.Helper()
	owner := int(l.uid)
	if l.users {
		owner = firstUID
		rig.Must(t, "sh", "-c", `mountpoint -q "$1" || chown -R 200000:200000 "$1"`, "sh", filepath.Join(p.dir, "rootfs"))
	}
	if err := os.Chown(filepath.Join(p.dir, "work"), owner, owner); err != nil {
		t.Fatal(err)
	}
	// The pod's users get in.
	for at := p.dir; at != "/tmp" && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// unmark takes the mark of mica's image from the pod's root directory.
func (p *pod) unmark() {
	p.t.Helper()
	if err := os.Remove(filepath.Join(p.dir, "rootfs/mica/image")); err != nil {
		p.t.Fatal(err)
	}
}

// install copies a program into the pod's image, with the libraries that it needs.
func (p *pod) install(program string) {
	p.t.Helper()
	root := filepath.Join(p.dir, "rootfs")
	rig.Must(p.t, "install", "-m", "755", program, filepath.Join(root, "mica"))
	out := rig.Run(p.t, exec.Command("ldd", program))
	for word := range strings.FieldsSeq(out.Stdout) {
		if out.Code == 0 && strings.HasPrefix(word, "/") {
			rig.Must(p.t, "install", "-D", "-m", "755", word, filepath.Join(root, word))
		}
	}
}

// work is a path of the pod's volume on the host.
func (p *pod) work(name string) string { return filepath.Join(p.dir, "work", name) }

// load loads an archive of the host into the pod's store.
func (p *pod) load(archive string) {
	p.t.Helper()
	rig.Must(p.t, "install", "-m", "644", archive, p.work("base.tar"))
	p.run("load", "-i", "/work/base.tar")
}

// spec describes a container of the pod, as containerd's CRI does.
func (p *pod) spec(args []string) *specs.Spec {
	l := p.level
	caps := capabilities
	if l.restricted {
		caps = nil
	}
	set := &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	if l.uid != 0 {
		set.Effective, set.Permitted = nil, nil
	}
	s := &specs.Spec{
		Version: specs.Version, Hostname: "pod", Root: &specs.Root{Path: filepath.Join(p.dir, "rootfs")}, Mounts: p.mounts(),
		Process: &specs.Process{
			User: specs.User{UID: l.uid, GID: l.uid}, Args: args, Cwd: "/work", Capabilities: set, NoNewPrivileges: l.restricted,
			Env: append([]string{"PATH=/mica:/usr/bin:/bin", "HOME=/work/home", "MICA_ROOT=/work/store", "NO_COLOR=1"}, p.env...),
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace}}},
	}
	if l.users {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: firstUID, Size: 65536}}
		s.Linux.GIDMappings = s.Linux.UIDMappings
	}
	if !l.unmasked {
		s.Linux.MaskedPaths = []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"}
		s.Linux.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	}
	if !l.unconfined {
		s.Linux.Seccomp = seccomp.DefaultProfile(s)
	}
	return s
}

func (p *pod) mounts() []specs.Mount {
	plain := []string{"nosuid", "noexec", "nodev"}
	return append([]specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: plain},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: append([]string{"mode=1777", "size=65536k"}, plain...)},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: plain},
		{Destination: "/sys", Type: "none", Source: "/sys", Options: append([]string{"rbind", "ro"}, plain...)},
		{Destination: "/work", Type: "bind", Source: filepath.Join(p.dir, "work"), Options: []string{"rbind", "rprivate"}},
		{Destination: "/etc/resolv.conf", Type: "bind", Source: "/etc/resolv.conf", Options: []string{"rbind", "rprivate", "ro"}},
	}, p.volumes...)
}

// try runs mica in the pod.
func (p *pod) try(args ...string) rig.Output {
	p.t.Helper()
	cmd, _ := p.command(args...)
	return rig.Run(p.t, cmd)
}

// command returns a command that runs mica in the pod, and the name of its container.
func (p *pod) command(args ...string) (cmd *exec.Cmd, name string) {
	p.t.Helper()
	bundle, err := os.MkdirTemp(p.dir, "bundle")
	if err != nil {
		p.t.Fatal(err)
	}
	config, err := json.Marshal(p.spec(append([]string{p.program}, args...)))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600); err != nil {
		p.t.Fatal(err)
	}
	name = filepath.Base(bundle)
	return p.runc("run", "--bundle", bundle, name), name
}

func (p *pod) runc(args ...string) *exec.Cmd {
	return exec.Command("runc", append([]string{"--root", filepath.Join(p.dir, "state")}, args...)...)
}

// run is try for a command that must succeed.
func (p *pod) run(args ...string) string {
	p.t.Helper()
	out := p.try(args...)
	if out.Code != 0 {
		p.t.Fatalf("level %s: mica %s: exit code %d\n%s%s", p.level.name, strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stdout
}
