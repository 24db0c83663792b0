package sandbox

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// seal waits for descriptors that are still open: the kernel closes those of a killed process a moment after its end.
const (
	sealTries = 100
	sealPause = 10 * time.Millisecond
)

// seal makes the filesystems that the process wrote to read-only, also for open descriptors. The process may have passed one to
// a process of another step (SCM_RIGHTS, on a socket in a cache mount), which could change files while mica makes a layer of
// them, replace a directory that mica is about to read by a symlink, or change the layer later.
func (b *bundle) seal() error {
	if !b.p.Seal {
		return nil
	}
	if b.p.Root.Upper != "" {
		if err := seal(b.rootfs); err != nil {
			return fmt.Errorf("end root filesystem: %w", err)
		}
	}
	for i, m := range b.p.Mounts {
		if m.Type != MountUnion || m.Union.Upper == "" {
			continue
		}
		if err := seal(b.unionDir(i)); err != nil {
			return fmt.Errorf("end mount %s: %w", m.Target, err)
		}
	}
	return nil
}

func seal(dir string) error {
	for n := 1; ; n++ {
		err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		switch {
		case !errors.Is(err, unix.EBUSY):
			return err
		case n == sealTries:
			return errors.New("a process outside the step has a file of it open for writing")
		}
		time.Sleep(sealPause)
	}
}
