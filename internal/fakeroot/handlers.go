package fakeroot

import (
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/seccomp"
)

// handlers returns what answers the calls that are always handed to the supervisor, by name.
func handlers() map[string]handler {
	path, symlinkPath := byPath(0), byPath(unix.AT_SYMLINK_NOFOLLOW)
	descriptor := xattrFile(byDescriptor)
	working := func(*call) int32 { return unix.AT_FDCWD }
	all := map[string]handler{
		"stat": statPath(0), "lstat": statPath(unix.AT_SYMLINK_NOFOLLOW), "fstat": fstat, "newfstatat": fstatat, "statx": statx,
		"chown": chownPath(0), "lchown": chownPath(unix.AT_SYMLINK_NOFOLLOW), "fchown": fchown, "fchownat": fchownat,
		"chmod": chmod, "fchmod": fchmod, "fchmodat": fchmodat, "fchmodat2": fchmodat2,
		"creat": creat, "openat2": openat2, "mkdir": mkdir, "mkdirat": mkdirat, "symlink": symlink, "symlinkat": symlinkat, "mknod": mknod, "mknodat": mknodat,
		"access": access, "faccessat": faccessat, "faccessat2": faccessat2, "chdir": chdir, "truncate": truncate,
		"unlink": unlink, "rmdir": unlink, "unlinkat": unlinkat, "link": link, "linkat": linkat,
		"rename": rename, "renameat": renameat, "renameat2": renameat,
		"utime": setTimes(working, 0, 1), "utimes": setTimes(working, 0, 1), "futimesat": setTimes(func(c *call) int32 { return c.fd(0) }, 1, 2), "utimensat": utimensat,
		"setxattr": path.set, "lsetxattr": symlinkPath.set, "fsetxattr": descriptor.set,
		"getxattr": path.get, "lgetxattr": symlinkPath.get, "fgetxattr": descriptor.get,
		"listxattr": path.list, "llistxattr": symlinkPath.list, "flistxattr": descriptor.list,
		"removexattr": path.remove, "lremovexattr": symlinkPath.remove, "fremovexattr": descriptor.remove,
		"execve": execve, "execveat": execveat, "capget": capGet, "capset": capSet,
		"getuid": users.real, "geteuid": users.effective, "getresuid": users.getAll, "getgid": groups.real, "getegid": groups.effective, "getresgid": groups.getAll,
		"setuid": users.set, "setreuid": users.setTwo, "setresuid": users.setAll, "setfsuid": users.setFS,
		"setgid": groups.set, "setregid": groups.setTwo, "setresgid": groups.setAll, "setfsgid": groups.setFS,
		"getgroups": getGroups, "setgroups": setGroups,
		"kill": kill, "tkill": signalOne, "tgkill": signalOne, "rt_sigqueueinfo": signalOne, "rt_tgsigqueueinfo": signalOne, "pidfd_open": signalOne, "pidfd_send_signal": signalDescriptor, "ptrace": ptrace,
	}
	return all
}

// conditional are the calls that some arguments alone hand to the supervisor.
var conditional = map[string]handler{
	"open": openPath, "openat": openat, "prctl": control, "getrlimit": getLimit, "ugetrlimit": getLimit, "setrlimit": setLimit, "prlimit64": swapLimit,
	"fcntl": setOwner, "fcntl64": setOwner, "ioctl": setSocketOwner,
}

// wide are calls whose ids have 16 bits on an architecture of 32 bits, and 32 under these names.
var wide = []string{
	"chown", "lchown", "fchown", "getuid", "geteuid", "getresuid", "getgid", "getegid", "getresgid", "setuid", "setreuid", "setresuid", "setfsuid",
	"setgid", "setregid", "setresgid", "setfsgid", "getgroups", "setgroups",
}

// wideStat are calls that write a state of 64 bits on an architecture of 32 bits.
var wideStat = map[string]string{"stat": "stat64", "lstat": "lstat64", "fstat": "fstat64", "newfstatat": "fstatat64"}

// more are other calls that such an architecture has.
var more = map[string]string{"utimensat": "utimensat_time64", "truncate": "truncate64"}

// forbidden are the calls that fail in a container without privileges, some of which would escape the supervisor: what is done through io_uring
// is not a call.
func forbidden() []specs.LinuxSyscall {
	fail := func(errno unix.Errno, args []specs.LinuxSeccompArg, names ...string) specs.LinuxSyscall {
		code := uint(errno)
		return specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &code, Args: args}
	}
	is := func(value uint64) []specs.LinuxSeccompArg { return []specs.LinuxSeccompArg{equals(0, value)} }
	return []specs.LinuxSyscall{
		fail(unix.EPERM, nil, "unshare", "setns", "io_uring_setup", "io_uring_enter", "io_uring_register"),
		fail(unix.EPERM, []specs.LinuxSeccompArg{{Index: 0, Value: unix.CLONE_NEWUSER, ValueTwo: unix.CLONE_NEWUSER, Op: specs.OpMaskedEqual}}, "clone"),
		// Flags in memory cannot be seen. Libraries fall back to clone.
		fail(unix.ENOSYS, nil, "clone3", "setxattrat", "getxattrat", "listxattrat", "removexattrat", "file_setattr"),
		// As where the kernel has no audit: programs that log users in go on without, but not where it is forbidden.
		fail(unix.EPROTONOSUPPORT, []specs.LinuxSeccompArg{{Index: 0, Value: unix.AF_NETLINK, Op: specs.OpEqualTo}, {Index: 2, Value: unix.NETLINK_AUDIT, Op: specs.OpEqualTo}}, "socket"),
		// A process that is not dumpable cannot be read; privileges are pretended.
		fail(0, is(unix.PR_SET_DUMPABLE), "prctl"), fail(0, is(unix.PR_GET_NO_NEW_PRIVS), "prctl"),
	}
}

// equals is for an argument that has 32 bits: the kernel does not look at the others.
func equals(index uint, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Value: math.MaxUint32, ValueTwo: value, Op: specs.OpMaskedEqual}
}

// rules returns the filter of a step's processes.
func rules() []specs.LinuxSyscall {
	var names []string
	for name := range handlers() {
		names = append(names, name)
	}
	names = slices.Concat(names, []string{"fchownat"})
	for _, name := range wide {
		names = append(names, name+"32")
	}
	for _, other := range []map[string]string{wideStat, more} {
		for _, name := range other {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	list := append(forbidden(), specs.LinuxSyscall{Names: slices.Compact(names), Action: specs.ActNotify})
	for name, flags := range map[string]uint{"open": 1, "openat": 2} {
		for _, match := range [][2]uint64{{unix.O_CREAT, unix.O_CREAT}, {unix.O_TRUNC, unix.O_TRUNC}, {unix.O_ACCMODE, unix.O_WRONLY}, {unix.O_ACCMODE, unix.O_RDWR}} {
			list = append(list, specs.LinuxSyscall{Names: []string{name}, Action: specs.ActNotify, Args: []specs.LinuxSeccompArg{{Index: flags, Value: match[0], ValueTwo: match[1], Op: specs.OpMaskedEqual}}})
		}
	}
	for name, resource := range map[string]uint{"getrlimit": 0, "ugetrlimit": 0, "setrlimit": 0, "prlimit64": 1} {
		list = append(list, specs.LinuxSyscall{Names: []string{name}, Action: specs.ActNotify, Args: []specs.LinuxSeccompArg{equals(resource, tagLimit)}})
	}
	for _, option := range []uint64{
		unix.PR_GET_KEEPCAPS, unix.PR_SET_KEEPCAPS, unix.PR_GET_SECUREBITS, unix.PR_SET_SECUREBITS, unix.PR_CAPBSET_READ, unix.PR_CAPBSET_DROP, unix.PR_CAP_AMBIENT,
	} {
		list = append(list, specs.LinuxSyscall{Names: []string{"prctl"}, Action: specs.ActNotify, Args: []specs.LinuxSeccompArg{equals(0, option)}})
	}
	for _, command := range []uint64{unix.F_SETOWN, unix.F_SETOWN_EX} {
		list = append(list, specs.LinuxSyscall{Names: []string{"fcntl", "fcntl64"}, Action: specs.ActNotify, Args: []specs.LinuxSeccompArg{equals(1, command)}})
	}
	for _, command := range []uint64{fioSetOwn, siocSetGroup} {
		list = append(list, specs.LinuxSyscall{Names: []string{"ioctl"}, Action: specs.ActNotify, Args: []specs.LinuxSeccompArg{equals(1, command)}})
	}
	return list
}

// abi answers the calls of one architecture.
type abi struct {
	handlers   map[int32]handler
	encodeStat func(*unix.Statx_t) []byte
	word       int // bytes
}

// newABIs returns the ABIs of a step's processes, by their values in a notification.
func newABIs() map[uint32]*abi {
	abis := map[uint32]*abi{}
	for _, a := range seccomp.ABIs() {
		made := &abi{handlers: map[int32]handler{}, encodeStat: encodeStat64, word: 8}
		add := func(name string, h handler) {
			if n, ok := a.Number(name); ok {
				made.handlers[int32(n)] = h
			}
		}
		for _, list := range []map[string]handler{handlers(), conditional} {
			for name, h := range list {
				add(name, h)
			}
		}
		switch a.Name() {
		case specs.ArchX86:
			made.encodeStat, made.word = encodeStat32(4), 4
			addNarrow(add)
		case specs.ArchARM:
			made.encodeStat, made.word = encodeStat32(8), 4
			addNarrow(add)
		}
		abis[a.Audit()] = made
	}
	return abis
}

// addNarrow adds the calls of an architecture of 32 bits. Those with ids of 16 bits fail: programs of this century do not make them.
func addNarrow(add func(name string, h handler)) {
	all := handlers()
	for _, name := range wide {
		add(name+"32", all[name])
		add(name, func(*call) (int64, error) { return 0, unix.ENOSYS })
	}
	for name, as := range wideStat {
		add(as, all[name])
		add(name, func(*call) (int64, error) { return 0, unix.ENOSYS })
	}
	for name, as := range more {
		add(as, all[name])
	}
}
