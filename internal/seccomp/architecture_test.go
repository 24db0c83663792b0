package seccomp

import (
	"slices"
	"strings"
	"testing"

	profile "github.com/moby/profiles/seccomp"
)

// The tables are searched by name: they are sorted, and no name or number is in one twice.
func TestTables(t *testing.T) {
	t.Parallel()
	for _, goarch := range []string{"amd64", "arm64"} {
		for _, a := range architectures(goarch) {
			numbers := map[uint32]string{}
			for i, n := range a.numbers {
				if i > 0 && strings.Compare(a.numbers[i-1].name, n.name) >= 0 {
					t.Errorf("%s: %s comes after %s", a.name, n.name, a.numbers[i-1].name)
				}
				if other, ok := numbers[n.number]; ok && n.name != "sync_file_range2" {
					t.Errorf("%s: %s and %s are both %d", a.name, other, n.name, n.number)
				}
				numbers[n.number] = n.name
				if got, ok := a.number(n.name); !ok || got != n.number {
					t.Errorf("%s: %s is %d, found as %d, %t", a.name, n.name, n.number, got, ok)
				}
			}
			if number, ok := a.number("nosuchcall"); ok {
				t.Errorf("%s: a call that does not exist has the number %d", a.name, number)
			}
		}
	}
	if architectures("riscv64") != nil || len(architectures("amd64")) != 2 || len(architectures("arm64")) != 2 {
		t.Error("mica runs on two architectures, each with a second ABI")
	}
}

// Numbers of the kernel's own tables (arch/*/entry/syscalls/*.tbl, include/uapi/asm-generic/unistd.h).
func TestKnownNumbers(t *testing.T) {
	t.Parallel()
	for goarch, want := range map[string][]map[string]uint32{
		"amd64": {
			{"read": 0, "openat": 257, "clone3": 435, "close_range": 436, "openat2": 437, "io_uring_setup": 425},
			{"read": 3, "openat": 295, "clone3": 435, "socketcall": 102, "waitpid": 7},
		},
		"arm64": {
			{"read": 63, "openat": 56, "clone3": 435, "close_range": 436, "openat2": 437},
			{"read": 3, "openat": 322, "clone3": 435, "cacheflush": 0x0f0002, "sync_file_range2": 341, "set_tls": 0x0f0005},
		},
	} {
		for i, a := range architectures(goarch) {
			for name, number := range want[i] {
				if got, ok := a.number(name); !ok || got != number {
					t.Errorf("%s: %s is %d, %t; want %d", a.name, name, got, ok, number)
				}
			}
		}
	}
}

// A call of Docker's profile that no table has is neither allowed nor refused: only calls of other architectures may be so.
func TestProfileIsKnown(t *testing.T) {
	t.Parallel()
	var tables []architecture
	for _, goarch := range []string{"amd64", "arm64"} {
		tables = append(tables, architectures(goarch)...)
	}
	for _, rule := range profile.DefaultProfile().Syscalls {
		for _, name := range rule.Names {
			known := slices.ContainsFunc(tables, func(a architecture) bool {
				_, ok := a.number(name)
				return ok
			})
			foreign := strings.HasPrefix(name, "s390_") || strings.HasPrefix(name, "riscv_") || name == "swapcontext" // PowerPC's
			if known == foreign {
				t.Errorf("%s is in a table: %t", name, known)
			}
		}
	}
}
