package fakeroot

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/chroot"
)

// kill is kill(2). A process that would end all others, as the last step of a container may, ends those of its step alone.
func kill(c *call) (int64, error) {
	pid := int(int32(c.arg(0)))
	if pid == -1 {
		return 0, c.killAll(unix.Signal(c.arg(1)))
	}
	return 0, c.hidesGroup(pid)
}

// hidesGroup is hides for what is a process, or a group if it is negative.
func (c *call) hidesGroup(pid int) error {
	switch {
	case pid < 0 && -pid == unix.Getpgrp():
		return unix.ESRCH
	case pid <= 0:
		return errRun
	}
	return c.hides(pid)
}

// signalDescriptor is pidfd_send_signal(2), which takes a directory of /proc for a process, too.
func signalDescriptor(c *call) (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.process()) + "/fdinfo/" + strconv.Itoa(int(c.fd(0))))
	if err != nil {
		return 0, unix.EBADF
	}
	pid, ok := field(text, "Pid", 10)
	if !ok { // not a descriptor of pidfd_open, or of a process that has ended
		return 0, unix.ESRCH
	}
	return 0, c.hides(pid)
}

// ownerGroup is F_OWNER_PGRP.
const ownerGroup = 2

// The requests of ioctl(2) that do what F_SETOWN does.
const (
	fioSetOwn    = 0x8901
	siocSetGroup = 0x8902
)

// setOwner is fcntl(2) for F_SETOWN and F_SETOWN_EX: the owner of a descriptor gets signals, which F_SETSIG chooses.
func setOwner(c *call) (int64, error) {
	if c.arg(1) == unix.F_SETOWN {
		return 0, c.hidesGroup(int(int32(c.arg(2))))
	}
	owner, err := get[struct{ Kind, ID int32 }](c, c.args[2])
	if err != nil {
		return 0, err
	}
	if owner.Kind == ownerGroup {
		return 0, c.hidesGroup(-int(owner.ID))
	}
	return 0, c.hidesGroup(int(owner.ID))
}

// setSocketOwner is ioctl(2) for the same.
func setSocketOwner(c *call) (int64, error) {
	id, err := get[int32](c, c.args[2])
	if err != nil {
		return 0, err
	}
	return 0, c.hidesGroup(int(id))
}

// signalOne is for the calls that act on the process of their first argument. Others than those of the step are hidden, as in a pid namespace.
func signalOne(c *call) (int64, error) { return 0, c.hides(int(int32(c.arg(0)))) }

// ptrace is ptrace(2).
func ptrace(c *call) (int64, error) {
	if c.arg(0) == unix.PTRACE_TRACEME {
		return 0, errRun
	}
	return 0, c.hides(int(int32(c.arg(1))))
}

// hides returns errRun for a process of the step.
func (c *call) hides(pid int) error {
	if pid == c.process() {
		return errRun
	}
	target, _ := threadGroup(pid)
	caller, _ := threadGroup(c.process())
	parents := chroot.Parents()
	if step := stepOf(parents, caller); target == caller || step != 0 && stepOf(parents, target) == step {
		return errRun
	}
	return unix.ESRCH
}

// stepOf returns the child of this process, which supervises a step, that a process is below; 0 for nothing.
func stepOf(parents map[int]int, pid int) int {
	me := os.Getpid()
	for range parents {
		parent := parents[pid]
		switch {
		case parent == 0, pid == me:
			return 0
		case parents[parent] == me:
			return parent
		}
		pid = parent
	}
	return 0
}

func (c *call) killAll(signal unix.Signal) error {
	parents := chroot.Parents()
	own, _ := threadGroup(c.process())
	step := stepOf(parents, own)
	err := error(unix.ESRCH)
	for pid := range parents {
		if pid != own && step != 0 && stepOf(parents, pid) == step && unix.Kill(pid, signal) == nil {
			err = nil
		}
	}
	return err
}
