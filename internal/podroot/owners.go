package podroot

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/tree"
)

// Own has a file of this process belong to a user, with a mode.
func Own(owners tree.Owners, name string, uid, gid, mode uint32) error {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return owners.Set(name, &tree.Meta{UID: uid, GID: gid, Mode: st.Mode&unix.S_IFMT | mode})
}

// MakeDir makes a directory and those above it that are missing, which belong to a user.
func MakeDir(owners tree.Owners, dir string, uid, gid uint32) error {
	var missing []string
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is not a directory", at)
		}
		if err == nil {
			break
		}
		missing = append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if err := Own(owners, at, uid, gid, 0o755); err != nil {
			return err
		}
	}
	return nil
}
