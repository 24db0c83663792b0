// Command calls says what becomes of some system calls.
package main

import (
	"fmt"
	"syscall"
)

func main() {
	const unknown = 1000 // a number that no kernel has
	for _, call := range []struct {
		name string
		args [2]uintptr
		nr   uintptr
	}{
		{name: "getpid", nr: syscall.SYS_GETPID},
		{name: "unshare", nr: syscall.SYS_UNSHARE, args: [2]uintptr{syscall.CLONE_NEWUSER}},
		{name: "clone", nr: syscall.SYS_CLONE, args: [2]uintptr{syscall.CLONE_NEWUSER | uintptr(syscall.SIGCHLD)}},
		{name: "mount", nr: syscall.SYS_MOUNT},
		{name: "unknown", nr: unknown},
	} {
		_, _, errno := syscall.RawSyscall(call.nr, call.args[0], call.args[1], 0)
		fmt.Printf("%s: %d\n", call.name, int(errno))
	}
}
