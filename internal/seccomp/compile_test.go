package seccomp

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	allow = unix.SECCOMP_RET_ALLOW
	kill  = unix.SECCOMP_RET_KILL_THREAD
	eperm = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
)

// dockerFilter returns Docker's default filter for a process with these capabilities.
func dockerFilter(t testing.TB, caps ...string) *specs.LinuxSeccomp {
	t.Helper()
	filter, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		t.Fatal(err)
	}
	filter.Architectures = slices.DeleteFunc(filter.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	return filter
}

// machine runs a program.
type machine struct {
	t  testing.TB
	vm *bpf.VM
}

func newMachine(t testing.TB, program []byte) machine {
	t.Helper()
	var code []bpf.Instruction
	for i := 0; i+8 <= len(program); i += 8 {
		raw := bpf.RawInstruction{
			Op: binary.NativeEndian.Uint16(program[i:]), Jt: program[i+2], Jf: program[i+3], K: binary.NativeEndian.Uint32(program[i+4:]),
		}
		code = append(code, raw.Disassemble())
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatal(err)
	}
	return machine{t, vm}
}

// decide returns what the program returns for a system call.
func (m machine) decide(audit, number uint32, args ...uint64) uint32 {
	m.t.Helper()
	data := binary.BigEndian.AppendUint32(nil, number) // the machine loads words of packets
	data = binary.BigEndian.AppendUint32(data, audit)
	data = append(data, make([]byte, 8)...)
	for i := range 6 {
		var arg uint64
		if i < len(args) {
			arg = args[i]
		}
		data = binary.BigEndian.AppendUint32(data, uint32(arg))
		data = binary.BigEndian.AppendUint32(data, uint32(arg>>32))
	}
	got, err := m.vm.Run(data)
	if err != nil {
		m.t.Fatal(err)
	}
	return uint32(got)
}

// Rules on the arguments, the numbers that several architectures share, and the edges of intervals.
func TestCompile(t *testing.T) {
	t.Parallel()
	errno := uint(unix.ENOSYS)
	filter := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86, specs.ArchX86_64},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "write", "nosuchcall"}, Action: specs.ActAllow},
			{Names: []string{"close"}, Action: specs.ActErrno, ErrnoRet: &errno},
			{Names: []string{"close"}, Action: specs.ActAllow},
			{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: 8, Op: specs.OpEqualTo}}},
			{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: 1<<32 + 1, Op: specs.OpEqualTo}}},
			{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: 4, Op: specs.OpLessThan}}},
			{Names: []string{"clone"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: 0xf0, Op: specs.OpMaskedEqual}}},
			{Names: []string{"clone"}, Action: specs.ActErrno, ErrnoRet: &errno, Args: []specs.LinuxSeccompArg{{Value: 0xf0, ValueTwo: 0x30, Op: specs.OpMaskedEqual}}},
			{Names: []string{"dup3"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 0, Value: 1, Op: specs.OpEqualTo}, {Index: 2, Value: 2, Op: specs.OpEqualTo},
			}},
			{Names: []string{"kill"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: 1, Op: specs.OpEqualTo}}},
			{Names: []string{"kill"}, Action: specs.ActAllow},
		},
	}
	program, err := compile(filter, architectures("amd64"))
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, program)
	const amd64, i386 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386
	const enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	for name, tc := range map[string]struct {
		audit, number uint32
		args          []uint64
		want          uint32
	}{
		"read":                      {amd64, 0, nil, allow},
		"write":                     {amd64, 1, nil, allow},
		"open":                      {amd64, 2, nil, eperm},
		"the first action":          {amd64, 3, nil, enosys},
		"the greatest number":       {amd64, 1<<30 - 1, nil, eperm},
		"x32":                       {amd64, 1 << 30, nil, kill},
		"x32's read":                {amd64, 1<<30 + 1, nil, kill},
		"a skipped call":            {amd64, 1<<32 - 1, nil, eperm},
		"another architecture":      {unix.AUDIT_ARCH_AARCH64, 0, nil, kill},
		"i386's restart_syscall":    {i386, 0, nil, eperm},
		"i386's read":               {i386, 3, nil, allow},
		"i386's write":              {i386, 4, nil, allow},
		"i386's close":              {i386, 6, nil, enosys},
		"equal":                     {amd64, 135, []uint64{8}, allow},
		"equal in the low half":     {amd64, 135, []uint64{1<<32 + 8}, eperm},
		"equal in 64 bits":          {amd64, 135, []uint64{1<<32 + 1}, allow},
		"equal but the high half":   {amd64, 135, []uint64{1}, eperm},
		"less":                      {amd64, 41, []uint64{3}, allow},
		"not less":                  {amd64, 41, []uint64{4}, eperm},
		"less in the low half":      {amd64, 41, []uint64{1 << 32}, eperm},
		"no bits":                   {amd64, 56, []uint64{0xf}, allow},
		"some bits":                 {amd64, 56, []uint64{0x10}, eperm},
		"the bits of the next rule": {amd64, 56, []uint64{0x3f}, enosys},
		"two arguments":             {amd64, 292, []uint64{1, 9, 2}, allow},
		"one of two arguments":      {amd64, 292, []uint64{1, 9, 3}, eperm},
		"the other of two":          {amd64, 292, []uint64{0, 9, 2}, eperm},
		"a condition too many":      {amd64, 62, []uint64{7}, allow},
	} {
		if got := m.decide(tc.audit, tc.number, tc.args...); got != tc.want {
			t.Errorf("%s: %#x, want %#x", name, got, tc.want)
		}
	}
}

// Docker's filter is compiled for all architectures, whatever a process may do.
func TestCompileDocker(t *testing.T) {
	t.Parallel()
	for _, goarch := range []string{"amd64", "arm64"} {
		for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_BPF", "CAP_SYS_PTRACE"}} {
			filter := dockerFilter(t, caps...)
			filter.Architectures = nil
			for _, a := range architectures(goarch) {
				filter.Architectures = append(filter.Architectures, a.name)
			}
			program, err := compile(filter, architectures(goarch))
			if err != nil {
				t.Fatal(err)
			}
			m := newMachine(t, program)
			for _, a := range architectures(goarch) {
				for name, want := range map[string]uint32{"read": allow, "openat": allow, "reboot": eperm, "chroot": eperm, "keyctl": eperm} {
					if name == "chroot" && caps != nil {
						want = allow
					}
					number, ok := a.number(name)
					if got := m.decide(a.audit, number); !ok || got != want {
						t.Errorf("%s %v: %s: %#x, want %#x", a.name, caps, name, got, want)
					}
				}
			}
		}
	}
}

// What Docker's profile does not use is left to the runtime.
func TestCompileUnsupported(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*specs.LinuxSeccomp){
		"flags":       func(f *specs.LinuxSeccomp) { f.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog} },
		"a listener":  func(f *specs.LinuxSeccomp) { f.ListenerPath = "/run/listener" },
		"x32":         func(f *specs.LinuxSeccomp) { f.Architectures = append(f.Architectures, specs.ArchX32) },
		"an action":   func(f *specs.LinuxSeccomp) { f.Syscalls[0].Action = specs.ActTrap },
		"the default": func(f *specs.LinuxSeccomp) { f.DefaultAction = specs.ActKill },
		"an operator": func(f *specs.LinuxSeccomp) { f.Syscalls[0].Args = []specs.LinuxSeccompArg{{Op: specs.OpGreaterThan}} },
		"a seventh": func(f *specs.LinuxSeccomp) {
			f.Syscalls[0].Args = []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}
		},
		"a large number": func(f *specs.LinuxSeccomp) {
			f.Syscalls[0].Args = []specs.LinuxSeccompArg{{Value: 1 << 32, Op: specs.OpLessThan}}
		},
		"an alternative": func(f *specs.LinuxSeccomp) {
			f.Syscalls[0].Args = []specs.LinuxSeccompArg{{Value: 1, Op: specs.OpEqualTo}, {Value: 2, Op: specs.OpEqualTo}}
		},
	} {
		filter := dockerFilter(t)
		change(filter)
		if _, err := Compile(filter); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A search over many intervals has jumps of more than 255 instructions.
func TestSearch(t *testing.T) {
	t.Parallel()
	calls := map[uint32]call{}
	for i := range uint32(1000) {
		calls[i] = call{otherwise: unix.SECCOMP_RET_ERRNO | i}
	}
	program, err := binary.Append(nil, binary.NativeEndian, append([]unix.SockFilter{load(offsetNumber)}, search(intervals(calls, kill))...))
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, program)
	for i := range uint32(1010) {
		want := unix.SECCOMP_RET_ERRNO | i
		if i >= 1000 {
			want = kill
		}
		if got := m.decide(0, i); got != want {
			t.Fatalf("%d: %#x, want %#x", i, got, want)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	filter := dockerFilter(b)
	for b.Loop() {
		if _, err := Compile(filter); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCompileNotify(t *testing.T) {
	notify := []specs.LinuxSyscall{{Names: []string{"getuid"}, Action: specs.ActNotify}}
	if _, err := CompileNotify(notify, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("without an ABI: %v", err)
	}
	if _, err := CompileNotify(notify, ABIs()); err != nil {
		t.Error(err)
	}
	if _, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86}, Syscalls: notify}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("for a runtime: %v", err)
	}
}
