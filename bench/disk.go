//go:build e2e

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// diskUsage is what a directory takes on its disk, in bytes: blocks, each file once; without what is mounted in it.
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

// unmountBelow unmounts what a program that failed has left mounted in a directory.
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
