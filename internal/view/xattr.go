package view

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadXattrs returns a file's extended attributes, nil for none; overlayfs's own are left out. No symlink is followed.
func ReadXattrs(path string) (map[string]string, error) {
	var buf [1024]byte
	n, err := unix.Llistxattr(path, buf[:])
	list := buf[:max(n, 0)]
	if errors.Is(err, unix.ERANGE) {
		list, err = longXattr(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	}
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EACCES) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var attrs map[string]string
	for name := range strings.SplitSeq(string(list), "\x00") {
		if name == "" || OverlayXattr(name) {
			continue
		}
		value, err := longXattr(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs[name] = string(value)
	}
	return attrs, nil
}

// OverlayXattr reports whether an attribute is overlayfs's own: it says where a file stands in one mount, never what it
// is. In an archive or an image it would act on the mount that the file becomes part of.
func OverlayXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// longXattr asks for the length first, and again if it grew in between.
func longXattr(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if err != nil {
			return nil, err
		}
		b := make([]byte, n+16)
		n, err = get(b)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		return b[:max(n, 0)], err
	}
}
