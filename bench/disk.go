//go:build e2e

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// diskUsage is what a folder takes on its disk, in bytes: blocks, each file once; without what is mounted in it.
func diskUsage(dir string) (total int64, err error) {
	syscall.Sync()
	var root syscall.Stat_t
	if err := syscall.Lstat(dir, &root); err != nil {
		return 0, err
	}
	seen := map[uint64]bool{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st syscall.Stat_t
		if err != nil || syscall.Lstat(path, &st) != nil {
			return nil //nolint:nilerr // it is gone: a daemon is still at work
		}
		if st.Dev != root.Dev && d.IsDir() {
			return fs.SkipDir
		}
		if st.Nlink < 2 || d.IsDir() || !seen[st.Ino] {
			total += st.Blocks * 512
		}
		if st.Nlink > 1 {
			seen[st.Ino] = true
		}
		return nil
	})
	return total, err
}

// A disk is a new ext4 filesystem in a sparse file. Every engine has one: on a filesystem that others have just removed tens
// of thousands of files from, ext4 takes many times as long to make new ones, for minutes.
type disk struct{ image, device, dir string }

const diskSize = 64 << 30

func newDisk(dir string) (*disk, error) {
	d := &disk{image: dir + ".img", dir: dir}
	if err := writeSparse(d.image, diskSize); err != nil {
		return nil, err
	}
	if err := all(exec.Command("mkfs.ext4", "-q", "-F", d.image)); err != nil {
		return nil, errors.Join(err, os.Remove(d.image))
	}
	out, err := exec.Command("losetup", "--find", "--show", "--direct-io=on", d.image).Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("losetup: %w", err), os.Remove(d.image))
	}
	d.device = strings.TrimSpace(string(out))
	// noinit_itable: nothing is to be written in the background while somebody is measured.
	if err := all(exec.Command("mount", "-o", "noinit_itable", d.device, d.dir)); err != nil {
		return nil, errors.Join(err, d.remove())
	}
	return d, nil
}

// remove gives back what the disk took.
func (d *disk) remove() error {
	return errors.Join(unmountBelow(d.dir), ignore(syscall.Unmount(d.dir, 0), syscall.EINVAL),
		all(exec.Command("losetup", "--detach", d.device)), os.Remove(d.image))
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// unmountBelow unmounts what a program that failed has left mounted in a folder.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			errs = append(errs, syscall.Unmount(f[4], syscall.MNT_DETACH))
		}
	}
	return errors.Join(errs...)
}
