package runtimespec

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func dockersFilter(t *testing.T) *specs.LinuxSeccomp {
	t.Helper()
	filter, err := seccompFilter(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		t.Fatal(err)
	}
	return filter
}

// allowed are the calls that a filter allows, in any way.
func allowed(filter *specs.LinuxSeccomp) map[string]bool {
	names := map[string]bool{}
	for _, rule := range filter.Syscalls {
		if rule.Action == specs.ActAllow {
			for _, name := range rule.Names {
				names[name] = true
			}
		}
	}
	return names
}

// Calls that are allowed stay so, those that the profile names fail with EPERM, and only the rest with ENOSYS.
func TestRejectUnknown(t *testing.T) {
	before, after := allowed(dockersFilter(t)), dockersFilter(t)
	rejectUnknown(after)
	if got := *after.DefaultErrnoRet; got != uint(unix.ENOSYS) {
		t.Errorf("the rest ends with errno %d", got)
	}
	for name := range allowed(after) {
		if !before[name] {
			t.Errorf("%s is allowed now", name)
		}
	}
	if len(allowed(after)) != len(before) {
		t.Errorf("%d calls are allowed, not %d", len(allowed(after)), len(before))
	}
	refused := map[string]bool{}
	flags := uint64(0)
	for _, rule := range after.Syscalls {
		if rule.Action != specs.ActErrno || rule.ErrnoRet == nil || *rule.ErrnoRet != uint(unix.EPERM) {
			continue
		}
		for _, name := range rule.Names {
			switch {
			case len(rule.Args) == 0 && before[name]:
				t.Errorf("%s is refused now", name)
			case len(rule.Args) == 0:
				refused[name] = true
			case name == "clone":
				flags |= rule.Args[0].Value
			}
		}
	}
	for _, name := range []string{"mount", "unshare", "setns", "bpf", "reboot"} {
		if !refused[name] {
			t.Errorf("%s does not end with EPERM", name)
		}
	}
	if want := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWUSER | unix.CLONE_NEWPID); flags&want != want {
		t.Errorf("clone with flags %#x does not end with EPERM", want&^flags)
	}
}
