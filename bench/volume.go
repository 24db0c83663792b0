//go:build e2e

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// A volume is a new ext4 filesystem in a sparse file. Every engine has one: on a filesystem that others have just removed tens
// of thousands of files from, ext4 takes many times as long to make new ones, for minutes.
type volume struct{ image, device, dir string }

const volumeSize = 64 << 30 // bytes; the file is sparse

// newVolume makes an ext4 filesystem and mounts it at dir, which must be there.
func newVolume(dir string) (*volume, error) {
	v := &volume{image: dir + ".img", dir: dir}
	if err := writeSparse(v.image, volumeSize); err != nil {
		return nil, err
	}
	if err := all(exec.Command("mkfs.ext4", "-q", "-F", v.image)); err != nil {
		return nil, errors.Join(err, os.Remove(v.image))
	}
	out, err := exec.Command("losetup", "--find", "--show", "--direct-io=on", v.image).Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("losetup: %w", err), os.Remove(v.image))
	}
	v.device = strings.TrimSpace(string(out))
	// noinit_itable: nothing is to be written in the background while somebody is measured.
	if err := all(exec.Command("mount", "-o", "noinit_itable", v.device, v.dir)); err != nil {
		return nil, errors.Join(err, v.remove())
	}
	// A new device has no share yet of the memory that waits to be written, and who writes to it has to wait for it. A disk
	// that has been in use has one. All shares together are less than 100; a volume too many goes without.
	_ = os.WriteFile(filepath.Join("/sys/block", filepath.Base(v.device), "bdi/min_ratio"), []byte("40"), 0)
	return v, nil
}

// remove unmounts it and removes its file.
func (v *volume) remove() error {
	err := unmountBelow(v.dir)
	if e := syscall.Unmount(v.dir, 0); !errors.Is(e, syscall.EINVAL) { // EINVAL: it was never mounted
		err = errors.Join(err, e)
	}
	return errors.Join(err, all(exec.Command("losetup", "--detach", v.device)), os.Remove(v.image))
}
