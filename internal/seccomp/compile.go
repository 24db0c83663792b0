// Package seccomp compiles the system call filters of OCI containers to the programs that the kernel runs (seccomp(2)), as
// libseccomp does, for the architectures that mica runs on.
package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ErrUnsupported is returned for filters that need a feature that Docker's default profile does not use. A runtime has to
// compile these itself.
var ErrUnsupported = errors.New("unsupported seccomp filter")

// Compile returns the program of a filter, an array of struct sock_filter.
func Compile(filter *specs.LinuxSeccomp) ([]byte, error) {
	return compile(filter, architectures(runtime.GOARCH))
}

func compile(filter *specs.LinuxSeccomp, arches []architecture) ([]byte, error) {
	if len(filter.Flags) > 0 || filter.ListenerPath != "" || !sameArchitectures(filter.Architectures, arches) || notifies(filter) {
		return nil, ErrUnsupported
	}
	fallback, err := action(filter.DefaultAction, filter.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	return program(filter, arches, fallback, foreign{abi: fallback, architecture: unix.SECCOMP_RET_KILL_THREAD})
}

// foreign are the actions for calls that no rule knows: those of another ABI of an architecture, and those of other architectures.
type foreign struct{ abi, architecture uint32 }

// program returns the instructions of a filter, an array of struct sock_filter.
func program(filter *specs.LinuxSeccomp, arches []architecture, fallback uint32, other foreign) ([]byte, error) {
	program := []unix.SockFilter{load(offsetArch)}
	for _, a := range arches {
		calls, err := a.rules(filter, fallback)
		if err != nil {
			return nil, err
		}
		block := a.block(calls, fallback, other.abi)
		program = append(program, branch(unix.BPF_JEQ, a.audit, len(block))...)
		program = append(program, block...)
	}
	program = append(program, ret(other.architecture))
	if len(program) > unix.BPF_MAXINSNS {
		return nil, ErrUnsupported
	}
	return binary.Append(nil, binary.NativeEndian, program)
}

// sameArchitectures reports whether a filter names exactly these architectures.
func sameArchitectures(names []specs.Arch, arches []architecture) bool {
	if len(arches) == 0 || len(names) != len(arches) {
		return false
	}
	for _, a := range arches {
		if !slices.Contains(names, a.name) {
			return false
		}
	}
	return true
}

// action returns the value that a program returns for an action.
func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		code := uint(unix.EPERM)
		if errno != nil {
			code = *errno
		}
		if code > unix.SECCOMP_RET_DATA {
			return 0, fmt.Errorf("%w: errno %d", ErrUnsupported, code)
		}
		return unix.SECCOMP_RET_ERRNO | uint32(code), nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	}
	return 0, fmt.Errorf("%w: action %s", ErrUnsupported, a)
}

// call is what happens to a system call: the action of the first rule that matches its arguments, or otherwise.
type call struct {
	conditional []rule
	otherwise   uint32
}

// rule is an action for calls whose arguments all match.
type rule struct {
	args   []specs.LinuxSeccompArg
	action uint32
}

// rules returns the calls that do not end with the default action, by number. A rule without conditions takes the place of
// those with conditions for the same call, as in libseccomp. Names that the architecture does not have are left out.
func (a *architecture) rules(filter *specs.LinuxSeccomp, fallback uint32) (map[uint32]call, error) {
	calls := map[uint32]call{}
	for _, s := range filter.Syscalls {
		act, err := action(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, err
		}
		if err := checkArgs(s.Args); err != nil {
			return nil, err
		}
		if act == fallback {
			continue
		}
		for _, name := range s.Names {
			number, ok := a.number(name)
			if !ok {
				continue
			}
			c, known := calls[number]
			switch {
			case known && c.conditional == nil: // the first rule without conditions counts
				continue
			case len(s.Args) == 0:
				c = call{otherwise: act}
			default:
				c.conditional, c.otherwise = append(c.conditional, rule{s.Args, act}), fallback
			}
			calls[number] = c
		}
	}
	return calls, nil
}

func checkArgs(args []specs.LinuxSeccompArg) error {
	var seen [6]bool
	for _, arg := range args {
		switch {
		case arg.Index >= uint(len(seen)) || seen[arg.Index]: // runtimes take two conditions on one argument for alternatives
			return fmt.Errorf("%w: argument %d", ErrUnsupported, arg.Index)
		case arg.Op == specs.OpLessThan && arg.Value > math.MaxUint32,
			arg.Op != specs.OpLessThan && arg.Op != specs.OpEqualTo && arg.Op != specs.OpMaskedEqual:
			return fmt.Errorf("%w: operator %s %d", ErrUnsupported, arg.Op, arg.Value)
		}
		seen[arg.Index] = true
	}
	return nil
}

// block returns the instructions for calls of the architecture.
func (a *architecture) block(calls map[uint32]call, fallback, foreign uint32) []unix.SockFilter {
	block := []unix.SockFilter{load(offsetNumber)}
	if a.foreignBit != 0 {
		// The numbers of another ABI, which is not allowed. -1 is none of them: a tracer skips a call so.
		kill := []unix.SockFilter{ret(unix.SECCOMP_RET_KILL_THREAD)}
		block = append(block, slices.Concat(branch(unix.BPF_JGE, a.foreignBit, 3), branch(unix.BPF_JEQ, ^uint32(0), 1),
			[]unix.SockFilter{ret(foreign)}, kill)...)
	}
	return append(block, search(intervals(calls, fallback))...)
}

// interval is a range of numbers of calls, up to the next interval, that one list of instructions decides.
type interval struct {
	first uint32
	code  []unix.SockFilter
}

// intervals joins calls with the same instructions. The first interval begins at 0.
func intervals(calls map[uint32]call, fallback uint32) []interval {
	list := []interval{{0, []unix.SockFilter{ret(fallback)}}}
	add := func(first uint32, code []unix.SockFilter) {
		last := &list[len(list)-1]
		switch {
		case slices.Equal(last.code, code):
		case last.first == first:
			last.code = code
		default:
			list = append(list, interval{first, code})
		}
	}
	for _, number := range slices.Sorted(maps.Keys(calls)) {
		add(number, calls[number].code())
		if _, ok := calls[number+1]; !ok {
			add(number+1, []unix.SockFilter{ret(fallback)})
		}
	}
	return list
}

// search returns a binary search for the interval of the number that is loaded.
func search(list []interval) []unix.SockFilter {
	if len(list) == 1 {
		return list[0].code
	}
	middle := len(list) / 2
	above, below := search(list[middle:]), search(list[:middle])
	return slices.Concat(branch(unix.BPF_JGE, list[middle].first, len(above)), above, below)
}

// code returns the instructions that decide a call. They end with a return.
func (c call) code() []unix.SockFilter {
	var code []unix.SockFilter
	for _, r := range c.conditional {
		rest := []unix.SockFilter{ret(r.action)}
		for _, arg := range slices.Backward(r.args) {
			rest = unlessMatch(arg, rest)
		}
		code = append(code, rest...)
	}
	return append(code, ret(c.otherwise))
}

// unlessMatch returns instructions that skip those of then unless the argument meets the condition. A program loads 32 bits
// at once, and both architectures are little-endian.
func unlessMatch(arg specs.LinuxSeccompArg, then []unix.SockFilter) []unix.SockFilter {
	low := offsetArgs + 8*uint32(arg.Index)
	high := low + 4
	switch arg.Op {
	case specs.OpLessThan: // a value of 32 bits
		less := slices.Concat([]unix.SockFilter{load(low)}, branch(unix.BPF_JGE, uint32(arg.Value), 1), jump(len(then)), then)
		return unlessEqual(high, math.MaxUint32, 0, less)
	case specs.OpMaskedEqual:
		then = unlessEqual(low, uint32(arg.Value), uint32(arg.ValueTwo), then)
		return unlessEqual(high, uint32(arg.Value>>32), uint32(arg.ValueTwo>>32), then)
	}
	then = unlessEqual(low, math.MaxUint32, uint32(arg.Value), then)
	return unlessEqual(high, math.MaxUint32, uint32(arg.Value>>32), then)
}

// unlessEqual returns instructions that skip those of then unless the bits of mask at an offset have a value.
func unlessEqual(offset, mask, value uint32, then []unix.SockFilter) []unix.SockFilter {
	code := []unix.SockFilter{load(offset)}
	if mask != math.MaxUint32 {
		code = append(code, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask})
	}
	return slices.Concat(code, branch(unix.BPF_JEQ, value, len(then)), then)
}

// Offsets in struct seccomp_data.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(value uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
}

// branch returns a jump over the next n instructions unless the comparison with value holds.
func branch(comparison uint16, value uint32, n int) []unix.SockFilter {
	code := unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, K: value}
	if n <= math.MaxUint8 {
		code.Jf = uint8(n)
		return []unix.SockFilter{code}
	}
	code.Jt = 1
	return append([]unix.SockFilter{code}, jump(n)...)
}

// jump returns a jump over the next n instructions.
func jump(n int) []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(n)}}
}
