package tree

import (
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// Owners keeps what files are meant to be where this process has no rights beyond those of their owner: all files are its own then, it can
// read and write each, and a device is an empty file. It is safe for concurrent use.
type Owners interface {
	// Set keeps the metadata of a file. No symlink is followed.
	Set(path string, m *Meta) error
	// Get returns what a file is meant to be: it belongs to root and has its mode if nothing is kept. st is that of lstat(2).
	Get(path string, st *unix.Stat_t) (*Meta, error)
}

// Meta is what a file is meant to be.
type Meta struct {
	UID, GID   uint32
	Mode       uint32 // with the type
	Device     uint64 // its number
	Capability string // the attribute security.capability, "" for none
}

// capability is the attribute of a file that only root may set.
const capability = "security.capability"

// NewOwnersHost returns a host whose directories have the metadata of files in owners.
func NewOwnersHost(owners Owners) *Host {
	h := NewHost(func() bool { return false })
	h.owners = owners
	return h
}

// rootXattr reports whether only root may set an attribute.
func rootXattr(name string) bool {
	return strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "trusted.")
}

// metaOf is what an entry says of its file.
func metaOf(e *view.Entry) *Meta {
	m := &Meta{UID: uint32(e.UID), GID: uint32(e.GID), Mode: fileTypes[e.Type] | e.Mode, Capability: e.Xattrs[capability]}
	if e.Type == view.TypeChar || e.Type == view.TypeBlock {
		m.Device = unix.Mkdev(uint32(e.Major), uint32(e.Minor))
	}
	return m
}

// ownMode is the mode that a file gets for which m is kept: this process can read and write it, and execute or search it.
func ownMode(e *view.Entry) uint32 {
	mode := e.Mode&0o777 | 0o600
	if e.IsDir() || e.Mode&0o111 != 0 {
		mode |= 0o100
	}
	return mode
}

// keep gives a file the metadata that this process can give, but for its times, and keeps the rest.
func (t *directoryWriter) keep(e *view.Entry) error {
	path := filepath.Join(t.dir, e.Path)
	if e.Type != view.TypeSymlink {
		if err := unix.Chmod(path, ownMode(e)); err != nil {
			return &fs.PathError{Op: "chmod", Path: e.Path, Err: err}
		}
	}
	for name, value := range e.Xattrs {
		if name == capability {
			continue
		}
		var err error = unix.ENOTSUP
		if !rootXattr(name) {
			err = unix.Lsetxattr(path, name, []byte(value), 0)
		}
		if err := t.xattr(e, name, err); err != nil {
			return err
		}
	}
	if err := t.host.owners.Set(path, metaOf(e)); err != nil {
		return &fs.PathError{Op: "keep owner", Path: e.Path, Err: err}
	}
	return nil
}

// OwnedEntry describes a file of which the kernel says st, and owners m.
func OwnedEntry(st *unix.Stat_t, m *Meta) *view.Entry {
	owned := *st
	owned.Uid, owned.Gid, owned.Mode, owned.Rdev = m.UID, m.GID, m.Mode, m.Device
	e := view.StatEntry(&owned)
	if m.Capability != "" {
		e.Xattrs = map[string]string{capability: m.Capability}
	}
	return e
}
