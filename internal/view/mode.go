package view

import "io/fs"

// modeBits pairs Unix's special permission bits with Go's.
var modeBits = [3]struct {
	unix uint32
	mode fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}

// FileMode returns the mode as the fs package has it: the permission bits, and of the types only that of a directory.
func (e *Entry) FileMode() fs.FileMode {
	m := fs.FileMode(e.Mode & 0o777)
	for _, b := range modeBits {
		if e.Mode&b.unix != 0 {
			m |= b.mode
		}
	}
	if e.IsDir() {
		m |= fs.ModeDir
	}
	return m
}

// UnixMode returns the permission bits of a mode as the kernel has them.
func UnixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	for _, b := range modeBits {
		if m&b.mode != 0 {
			u |= b.unix
		}
	}
	return u
}
