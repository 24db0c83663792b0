package sandbox

import (
	"os"
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

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
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

// What is allowed stays so, what is known and is not ends with EPERM, and only the rest with ENOSYS.
func TestAnswerUnknown(t *testing.T) {
	before, after := allowed(dockersFilter(t)), dockersFilter(t)
	answerUnknown(after)
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

// A filter is compiled when it is first wanted, kept when it is wanted again, and from then on given as it was kept.
func TestCompiledFilters(t *testing.T) {
	var c compiledFilters
	dir := t.TempDir()
	spec := func() *specs.Spec { return &specs.Spec{Linux: &specs.Linux{Seccomp: dockersFilter(t)}} }

	first, second, third := spec(), spec(), spec()
	c.prepare(first, dir)()
	if first.Hooks != nil || first.Annotations != nil {
		t.Errorf("the first is not left as it is: %+v %v", first.Hooks, first.Annotations)
	}
	remember := c.prepare(second, dir)
	if second.Hooks == nil || second.Annotations != nil {
		t.Fatalf("the second is not to be kept: %v", second.Annotations)
	}
	hook := second.Hooks.Poststart[0].Args
	writeFile(t, dir+"/made", "8 bytes.")
	keepMain(dir+"/made", hook[2])
	remember()
	c.prepare(third, dir)()
	if got := third.Annotations[compiledAnnotation]; got != "OCBieXRlcy4=" || third.Hooks != nil {
		t.Errorf("the third is given %q", got)
	}
}

// What the hook could not keep, or kept half, is not given to the kernel.
func TestCompiledFilterDamaged(t *testing.T) {
	for name, content := range map[string]string{"none": "", "half": "8 bytes.and"} {
		t.Run(name, func(t *testing.T) {
			var c compiledFilters
			dir := t.TempDir()
			spec := func() *specs.Spec { return &specs.Spec{Linux: &specs.Linux{Seccomp: dockersFilter(t)}} }
			c.prepare(spec(), dir)()
			remember := c.prepare(spec(), dir)
			if content != "" {
				writeFile(t, dir+"/"+compiledFile, content)
			}
			remember()
			third := spec()
			c.prepare(third, dir)()
			if third.Annotations != nil {
				t.Errorf("given %v", third.Annotations)
			}
		})
	}
}
