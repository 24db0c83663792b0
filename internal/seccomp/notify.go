package seccomp

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ABI is how processes of an architecture call the kernel.
type ABI struct{ arch architecture }

// ABIs returns those of the processes that a filter of CompileNotify knows: this program's, and that of 32 bits beside it.
func ABIs() []ABI {
	var abis []ABI
	for _, a := range architectures(runtime.GOARCH) {
		abis = append(abis, ABI{a})
	}
	return abis
}

// Name returns the name of the architecture.
func (a ABI) Name() specs.Arch { return a.arch.name }

// Audit returns the value of the architecture in struct seccomp_data.
func (a ABI) Audit() uint32 { return a.arch.audit }

// Number returns the number of a system call, and whether the architecture has it.
func (a ABI) Number(name string) (uint32, bool) { return a.arch.number(name) }

// CompileNotify returns the program of a filter for processes that have a supervisor: it allows the calls that rules do not name, and hands
// those with the action [specs.ActNotify] to the supervisor (seccomp_unotify(2)). Calls of ABIs other than those given fail with ENOSYS: a
// supervisor does not know their numbers.
func CompileNotify(rules []specs.LinuxSyscall, abis []ABI) ([]byte, error) {
	arches := make([]architecture, len(abis))
	for i, a := range abis {
		arches[i] = a.arch
	}
	if len(arches) == 0 {
		return nil, fmt.Errorf("%w: architecture %s", ErrUnsupported, runtime.GOARCH)
	}
	unknown := unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	return program(&specs.LinuxSeccomp{Syscalls: rules}, arches, unix.SECCOMP_RET_ALLOW, foreign{abi: unknown, architecture: unknown})
}

// notifies reports whether a filter needs a supervisor.
func notifies(filter *specs.LinuxSeccomp) bool {
	return filter.DefaultAction == specs.ActNotify || slices.ContainsFunc(filter.Syscalls, func(s specs.LinuxSyscall) bool { return s.Action == specs.ActNotify })
}
