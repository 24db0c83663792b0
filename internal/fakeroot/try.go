package fakeroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/chroot"
)

// The command that Try runs: this program, with a user and with an argument of its own.
const (
	program = "/proc/self/exe"
	tryName = "mica-fakeroot-try"
	tryUID  = 4242
)

// Init is the process of Try and does not return, if args say so. It is called first thing.
func Init(args []string) {
	if !slices.Equal(args, []string{program, tryName}) {
		return
	}
	if unix.Getuid() != tryUID {
		os.Exit(1)
	}
	os.Exit(0)
}

// Try returns the reason why this process cannot run commands, nil if it can. It runs one. The program must call Init, and that of chroot.
func Try(ctx context.Context) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_RTTIME, &l); err != nil || l.Max != unix.RLIM_INFINITY {
		return errors.New("pretend root: the hard limit of RLIMIT_RTTIME is not unlimited")
	}
	if err := Run(ctx, &chroot.Command{Args: []string{program, tryName}, Env: []string{}, Cwd: "/", UID: tryUID}, NewTable()); err != nil {
		return fmt.Errorf("pretend root by seccomp user notification: %w", err)
	}
	return nil
}
