package seccomp

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:generate go run generate.go

// architecture is an ABI of system calls.
type architecture struct {
	name  specs.Arch
	audit uint32 // its value in struct seccomp_data
	// foreignBit is set in the numbers of another ABI that has the same audit value; 0 for none.
	foreignBit uint32
	numbers    []namedNumber // sorted by name
}

// namedNumber is a system call.
type namedNumber struct {
	name   string
	number uint32
}

// architectures returns those that a kernel for a GOARCH runs, without x32; nil for those that mica does not run on.
func architectures(goarch string) []architecture {
	switch goarch {
	case "amd64":
		return []architecture{
			{specs.ArchX86_64, unix.AUDIT_ARCH_X86_64, 1 << 30, numbersAMD64[:]},
			{specs.ArchX86, unix.AUDIT_ARCH_I386, 0, numbers386[:]},
		}
	case "arm64":
		return []architecture{
			{specs.ArchAARCH64, unix.AUDIT_ARCH_AARCH64, 0, numbersARM64[:]},
			{specs.ArchARM, unix.AUDIT_ARCH_ARM, 0, numbersARM[:]},
		}
	}
	return nil
}

// number returns the number of a system call, and whether the architecture has it.
func (a *architecture) number(name string) (uint32, bool) {
	at, ok := slices.BinarySearchFunc(a.numbers, name, func(n namedNumber, name string) int { return strings.Compare(n.name, name) })
	if !ok {
		return 0, false
	}
	return a.numbers[at].number, true
}
