package tree

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// readXattrs returns all attributes of the file at path, itself if it is a symlink; nil if it has none.
func readXattrs(path string) (map[string]string, error) {
	var buf [1024]byte
	list, err := grow(buf[:], func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(list) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "list attributes", Path: path, Err: err}
	}
	attrs := make(map[string]string)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		var buf [1024]byte
		value, err := grow(buf[:], func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read attribute " + name, Path: path, Err: err}
		}
		attrs[name] = string(value)
	}
	return attrs, nil
}

// grow calls read with buf, and with larger buffers while it returns ERANGE.
func grow(buf []byte, read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(buf)
		if !errors.Is(err, unix.ERANGE) {
			return buf[:max(n, 0)], err
		}
		buf = make([]byte, 16*len(buf))
	}
}
