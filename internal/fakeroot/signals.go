package fakeroot

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/chroot"
)

// kill is kill(2). A process that would end all others, as the last step of a container may, ends those of its step alone.
func kill(c *call) (int64, error) {
	pid := int(int32(c.arg(0)))
	signal := unix.Signal(c.arg(1))
	switch {
	case pid == -1:
		return 0, c.killAll(signal)
	case pid < -1 && -pid == unix.Getpgrp():
		return 0, unix.ESRCH
	case pid <= 0:
		return 0, errRun
	}
	return signalOne(c)
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
