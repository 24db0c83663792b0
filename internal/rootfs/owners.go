package rootfs

import (
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/fakeroot"
	"github.com/micabuild/mica/internal/layer/tree"
)

// Owners are those of files in the table of a supervisor, which knows what a process has made of them.
type Owners struct{ Table *fakeroot.Table }

var _ tree.Owners = Owners{}

// NewOwners returns Owners of an empty table.
func NewOwners() Owners { return Owners{fakeroot.NewTable()} }

// Set implements [tree.Owners].
func (o Owners) Set(path string, m *tree.Meta) error {
	return o.Table.Record(path, fakeroot.File{UID: m.UID, GID: m.GID, Mode: m.Mode, Rdev: m.Device, Capability: []byte(m.Capability)})
}

// Get implements [tree.Owners].
func (o Owners) Get(path string, st *unix.Stat_t) (*tree.Meta, error) {
	as := *st
	capability, err := o.Table.Pretend(path, &as)
	if err != nil {
		return nil, err
	}
	return &tree.Meta{UID: as.Uid, GID: as.Gid, Mode: as.Mode, Device: as.Rdev, Capability: string(capability)}, nil
}
