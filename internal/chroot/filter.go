package chroot

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listen installs a filter for this thread, and sends the descriptor of its listener to a socket. The supervisor at the other end answers
// from then on.
func listen(filter []byte, socket int) error {
	const size = int(unsafe.Sizeof(unix.SockFilter{}))
	if len(filter)%size != 0 || len(filter)/size > unix.BPF_MAXINSNS {
		return unix.EINVAL
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter) / size), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))} //nolint:gosec // bounded above; aligned, as all that is allocated
	// A process whose call is answered is not interrupted by signals, but for those that kill it: the call would be made twice.
	fd, err := setFilter(&program, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.19
		fd, err = setFilter(&program, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	}
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	return unix.Close(fd)
}

func setFilter(program *unix.SockFprog, flags uintptr) (fd int, err error) {
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(program))) //nolint:gosec // a call without a wrapper
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}
