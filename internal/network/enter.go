package network

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// inside calls do on a thread in a network namespace. Sockets that do makes stay in the namespace. The thread then ends: that of
// an ordinary user cannot return to its namespace.
func inside(ns *os.File, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network: %w", err)
			return
		}
		done <- do()
	}()
	return <-done
}

// setSysctl sets a value of net.* of the thread's network namespace.
func setSysctl(name, value string) error {
	f, err := os.OpenFile("/proc/sys/net/"+name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
