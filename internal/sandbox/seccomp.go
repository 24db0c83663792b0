package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// seccompFilter is Docker's default profile for the process of s.
func seccompFilter(s *specs.Spec) (*specs.LinuxSeccomp, error) {
	filter, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	filter.Architectures = slices.DeleteFunc(filter.Architectures, func(a specs.Arch) bool {
		// Runtimes take 8 ms to compile the filter for each architecture, at every start. Kernels answer to x32 only
		// where they are booted with syscall.x32=y.
		return a == specs.ArchX32
	})
	return filter, nil
}

// answerUnknown makes Docker's filter answer to system calls that it does not know with ENOSYS instead of EPERM: the C
// library tries an older one then, and fails otherwise. runc does so by itself, for the numbers above all that it knows
// (libcontainer/seccomp/patchbpf). Those that the profile knows and does not allow still end with EPERM.
func answerUnknown(filter *specs.LinuxSeccomp) {
	eperm, enosys := uint(unix.EPERM), uint(unix.ENOSYS)
	if filter == nil || filter.DefaultErrnoRet == nil || *filter.DefaultErrnoRet != eperm {
		return
	}
	said := map[string]bool{}
	var masked []specs.LinuxSyscall
	for _, rule := range filter.Syscalls {
		for _, name := range rule.Names {
			said[name] = true
		}
		masked = append(masked, refuseMasked(rule)...)
	}
	var known []string
	for _, rule := range seccomp.DefaultProfile().Syscalls {
		for _, name := range rule.Names {
			if !said[name] {
				said[name] = true
				known = append(known, name)
			}
		}
	}
	slices.Sort(known)
	filter.DefaultErrnoRet = &enosys
	filter.Syscalls = append(filter.Syscalls, masked...)
	if len(known) > 0 {
		filter.Syscalls = append(filter.Syscalls, specs.LinuxSyscall{Names: known, Action: specs.ActErrno, ErrnoRet: &eperm})
	}
}

// refuseMasked are the rules for the other half of one that allows a call while none of some flags are set, as clone is
// while it makes no namespace: EPERM for each of the flags.
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

// compiledFilters remembers filters as the kernel takes them. crun needs two thirds of the time in which it starts a
// process to compile one.
type compiledFilters struct {
	mu    sync.Mutex
	asked map[string]int    // by the filter's JSON, how often it had to be compiled
	known map[string]string // the program, as the annotation takes it
}

// The annotation with which crun takes a compiled filter in place of the specification's, which it ignores then, and the
// name of the file in a container's state in which it has the one that it compiled (crun(1)).
const (
	compiledAnnotation = "run.oci.seccomp_bpf_data"
	compiledFile       = "seccomp.bpf"
)

// prepare has crun load the filter of s as it was compiled before. For a filter that is wanted a second time it has the
// compiled form copied to dir, and gives a function that remembers it when the process has ended.
func (c *compiledFilters) prepare(s *specs.Spec, dir string) (remember func()) {
	data, err := json.Marshal(s.Linux.Seccomp)
	if err != nil || s.Linux.Seccomp == nil {
		return func() {}
	}
	key := string(data)
	c.mu.Lock()
	defer c.mu.Unlock()
	if program, ok := c.known[key]; ok {
		s.Annotations = map[string]string{compiledAnnotation: program}
		return func() {}
	}
	if c.asked == nil {
		c.asked, c.known = map[string]int{}, map[string]string{}
	}
	if c.asked[key]++; c.asked[key] != 2 {
		return func() {}
	}
	copied := filepath.Join(dir, compiledFile)
	// The file is whole when the process has started, and is gone when it has ended.
	s.Hooks = &specs.Hooks{Poststart: []specs.Hook{{
		Path: "/proc/1/exe", Args: []string{keepName, filepath.Join(dir, "state", containerID, compiledFile), copied},
	}}}
	return func() { c.remember(key, copied) }
}

func (c *compiledFilters) remember(key, file string) {
	program, err := os.ReadFile(file)
	if err != nil || len(program) == 0 || len(program)%8 != 0 { // struct sock_filter
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[key] = base64.StdEncoding.EncodeToString(program)
}

// keepName is argv[0] of the hook that copies a compiled filter: this program, which the pid namespace's first process is
// as well.
const keepName = "mica-keep-filter"

// keepMain copies a file to a new one. It fails without a word: then the filter is compiled again.
func keepMain(from, to string) {
	in, err := os.Open(from)
	if err != nil {
		return
	}
	out, err := os.OpenFile(to+".part", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	if _, err := io.Copy(out, in); err == nil && out.Close() == nil {
		_ = os.Rename(to+".part", to)
	}
}
