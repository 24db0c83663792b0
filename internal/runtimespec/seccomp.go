package runtimespec

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	profiles "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/seccomp"
)

// seccompFilter returns Docker's default filter for the process of s.
func seccompFilter(s *specs.Spec) (*specs.LinuxSeccomp, error) {
	filter, err := profiles.GetDefaultProfile(s)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	filter.Architectures = slices.DeleteFunc(filter.Architectures, func(a specs.Arch) bool {
		// Runtimes take 8 ms to compile the filter for each architecture. Kernels have x32 only if they were booted with
		// syscall.x32=y.
		return a == specs.ArchX32
	})
	return filter, nil
}

// AdaptToCrun changes a specification where crun differs from runc: in what a filter does with unknown system calls, and in the
// time to compile it.
func AdaptToCrun(s *specs.Spec) error {
	rejectUnknown(s.Linux.Seccomp)
	return compileFilter(s)
}

// compiledFilter is the annotation with which crun loads a compiled filter in place of the specification's (crun(1)). It is
// experimental there: a crun without it compiles the specification's filter, which is the same one.
const compiledFilter = "run.oci.seccomp_bpf_data"

// compileFilter compiles the filter of s for crun, which takes 8 ms for each architecture: two thirds of the time in which it
// starts a process. crun compiles a filter itself that this program cannot.
func compileFilter(s *specs.Spec) error {
	if s.Linux.Seccomp == nil {
		return nil
	}
	program, err := seccomp.Compile(s.Linux.Seccomp)
	if errors.Is(err, seccomp.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("compile seccomp profile: %w", err)
	}
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations[compiledFilter] = base64.StdEncoding.EncodeToString(program)
	return nil
}

// rejectUnknown makes Docker's filter fail system calls that it does not name with ENOSYS instead of EPERM: the C library then
// tries an older one, and fails otherwise. runc does so itself, for numbers above all that it knows
// (libcontainer/seccomp/patchbpf). Calls that the profile names and does not allow still fail with EPERM.
func rejectUnknown(filter *specs.LinuxSeccomp) {
	eperm, enosys := uint(unix.EPERM), uint(unix.ENOSYS)
	if filter == nil || filter.DefaultErrnoRet == nil || *filter.DefaultErrnoRet != eperm {
		return
	}
	named := map[string]bool{}
	var masked []specs.LinuxSyscall
	for _, rule := range filter.Syscalls {
		for _, name := range rule.Names {
			named[name] = true
		}
		masked = append(masked, refuseMasked(rule)...)
	}
	var refused []string
	for _, rule := range profiles.DefaultProfile().Syscalls {
		for _, name := range rule.Names {
			if !named[name] {
				named[name] = true
				refused = append(refused, name)
			}
		}
	}
	slices.Sort(refused)
	filter.DefaultErrnoRet = &enosys
	filter.Syscalls = append(filter.Syscalls, masked...)
	if len(refused) > 0 {
		filter.Syscalls = append(filter.Syscalls, specs.LinuxSyscall{Names: refused, Action: specs.ActErrno, ErrnoRet: &eperm})
	}
}

// refuseMasked returns the complement of a rule that allows a call if none of some flags is set, as clone without new
// namespaces: rules with EPERM, one for each flag.
func refuseMasked(rule specs.LinuxSyscall) []specs.LinuxSyscall {
	if rule.Action != specs.ActAllow || len(rule.Args) != 1 {
		return nil
	}
	arg := rule.Args[0]
	if arg.Op != specs.OpMaskedEqual || arg.ValueTwo != 0 {
		return nil
	}
	eperm := uint(unix.EPERM)
	var rules []specs.LinuxSyscall
	for flag := uint64(1); flag != 0; flag <<= 1 {
		if arg.Value&flag != 0 {
			rules = append(rules, specs.LinuxSyscall{
				Names: rule.Names, Action: specs.ActErrno, ErrnoRet: &eperm,
				Args: []specs.LinuxSeccompArg{{Index: arg.Index, Value: flag, ValueTwo: flag, Op: specs.OpMaskedEqual}},
			})
		}
	}
	return rules
}
