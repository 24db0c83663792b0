package fakeroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/chroot"
	"github.com/micabuild/mica/internal/ociruntime"
)

// The command that Try runs: this program, with a user and with an argument of its own.
const (
	program = "/proc/self/exe"
	tryName = "mica-fakeroot-try"
	tryUID  = 4242
)

// What the process of Try exits with. The first two are a shell's, which a runtime may have too.
const (
	tryFailed = iota + 3
	tryNoMemory
	tryNoDescriptor
)

// causes are what keeps the supervisor from its work.
var causes = map[int]string{
	tryNoMemory:     "memory of another process of this user cannot be read: set the sysctl kernel.yama.ptrace_scope to 0 or 1 on the node",
	tryNoDescriptor: "the kernel cannot answer a call with a descriptor: Linux 5.14 is needed",
}

// Init is the process of Try and does not return, if args say so. It is called first thing.
func Init(args []string) {
	if slices.Equal(args, []string{program, tryName}) {
		os.Exit(tryCalls())
	}
}

// tryCalls makes a call that is answered with a number, one whose path the supervisor reads, and one that it answers with a descriptor.
func tryCalls() int {
	if unix.Getuid() != tryUID {
		return tryFailed
	}
	if err := unix.Chmod(".", 0o700); err != nil {
		return tryNoMemory
	}
	fd, err := unix.Open("file", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return tryNoDescriptor
	}
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		return tryFailed
	}
	return 0
}

// Try returns the reason why this process cannot run commands, nil if it can. It runs one. The program must call Init, and that of chroot.
func Try(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("pretend root by seccomp user notification: %w", err)
		}
	}()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_RTTIME, &l); err != nil || l.Max != unix.RLIM_INFINITY {
		return errors.New("the hard limit of RLIMIT_RTTIME is not unlimited")
	}
	dir, err := os.MkdirTemp("", "mica-fakeroot")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	table := NewTable()
	if err := table.Record(dir, File{UID: tryUID, GID: tryUID, Mode: unix.S_IFDIR | 0o755}); err != nil {
		return err
	}
	return causeOf(Run(ctx, &chroot.Command{Args: []string{program, tryName}, Env: []string{}, Cwd: dir, UID: tryUID, GID: tryUID}, table))
}

// causeOf explains how the process of Try ended.
func causeOf(err error) error {
	var exit *ociruntime.ExitError
	if errors.As(err, &exit) && causes[exit.Code] != "" {
		return errors.New(causes[exit.Code])
	}
	return err
}
