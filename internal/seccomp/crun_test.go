package seccomp

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestRootSameAsCrun compares the programs for Docker's filter with those that crun makes by libseccomp: for every number,
// and for arguments on both sides of each condition.
func TestRootSameAsCrun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	crun, err := exec.LookPath("crun")
	if err != nil {
		t.Fatal(err)
	}
	for name, caps := range map[string][]string{"default": nil, "privileges": {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}} {
		filter := dockerFilter(t, caps...)
		program, err := Compile(filter)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := newMachine(t, program), newMachine(t, compileByCrun(t, crun, filter))
		values := conditionValues(filter)
		for _, audit := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM} {
			// libseccomp 2.5.4 knows the calls of Linux 5.17, of which 449 is the last. x86-64 has filled a gap since.
			const end, uretprobe = 450, 335
			for number := range uint32(end) {
				if audit == unix.AUDIT_ARCH_X86_64 && number == uretprobe {
					continue
				}
				for _, v := range values {
					if audit == unix.AUDIT_ARCH_I386 || audit == unix.AUDIT_ARCH_ARM {
						v &= 1<<32 - 1 // arguments have 32 bits there
					}
					args := []uint64{v, v}
					if got, want := ours.decide(audit, number, args...), theirs.decide(audit, number, args...); got != want {
						t.Errorf("%s: architecture %#x: call %d with %#x: %#x, want %#x", name, audit, number, v, got, want)
						break
					}
				}
			}
			for _, number := range []uint32{1 << 30, 1<<30 + 1, 1<<31 - 1, 1<<32 - 2, 1<<32 - 1, 0x0f0002, 0x0f0005, 0x0f0006} {
				if got, want := ours.decide(audit, number), theirs.decide(audit, number); got != want {
					t.Errorf("%s: architecture %#x: call %#x: %#x, want %#x", name, audit, number, got, want)
				}
			}
		}
	}
}

// conditionValues returns the values of a filter's conditions, and those next to them.
func conditionValues(filter *specs.LinuxSeccomp) []uint64 {
	values := []uint64{0, 1, 1 << 32, 1<<64 - 1}
	for _, s := range filter.Syscalls {
		for _, a := range s.Args {
			values = append(values, a.Value-1, a.Value, a.Value+1, a.Value|1<<32)
			for bit := uint64(1); bit != 0; bit <<= 1 {
				if a.Op == specs.OpMaskedEqual {
					values = append(values, bit)
				}
			}
		}
	}
	return values
}

// compileByCrun returns the program that crun keeps of a container that it has created.
func compileByCrun(t *testing.T, crun string, filter *specs.LinuxSeccomp) []byte {
	t.Helper()
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	spec := specs.Spec{
		Version: "1.0.0", Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}}, Root: &specs.Root{Path: "rootfs"}, Process: &specs.Process{Cwd: "/", Args: []string{"/command"}},
		Linux: &specs.Linux{Seccomp: filter, Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}},
	}
	config, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"config.json": config, "rootfs/command": data, "rootfs/dev/none": nil, "rootfs/proc/none": nil} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		// crun refuses to run where it sees the cgroups of both versions.
		const script = `[ ! -d /sys/fs/cgroup/unified ] || mount -t tmpfs none /sys/fs/cgroup/unified; exec "$0" "$@"`
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, crun, "--root", state, "--cgroup-manager", "disabled"}, args...)...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // files, which the container keeps open
		if err := cmd.Run(); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	run("create", "--bundle", dir, "test")
	defer run("delete", "--force", "test")
	program, err := os.ReadFile(filepath.Join(state, "test", "seccomp.bpf"))
	if err != nil {
		t.Fatal(err)
	}
	return program
}
