package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/chroot"
	"github.com/micabuild/mica/internal/fakeroot"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/podroot"
	"github.com/micabuild/mica/internal/rootfs"
	"github.com/micabuild/mica/internal/store"
)

// UseRoot makes the host run processes as a pretended root in the root directory of its container, one at a time, in root filesystems that are
// plain files of this process's user (Process.Plain).
func (h *Host) UseRoot(r *podroot.Root) {
	owners := rootfs.NewOwners()
	h.plain, h.podRoot, h.owners = true, r, &owners
}

// Owners keeps the owners of files in root filesystems, nil where the files have them.
func (h *Host) Owners() tree.Owners {
	if h == nil || h.owners == nil {
		return nil
	}
	return h.owners
}

// PlainTemp makes a temporary directory for root filesystems of plain files, and for what is shown in them.
func (h *Host) PlainTemp(kind string) (*store.Temp, error) {
	if h != nil && h.podRoot != nil {
		return h.podRoot.Temp(kind)
	}
	return h.store.TempDir(kind)
}

// enter moves the root filesystem to where the process runs. What it returns moves it back.
func (b *bundle) enter(ctx context.Context, r *podroot.Root) (leave func() error, err error) {
	if r == nil {
		return func() error { return nil }, nil
	}
	use, err := r.Enter(ctx, b.root, b.p.Plain.Owners())
	if err != nil {
		return nil, err
	}
	b.rootfs, b.root, b.use = r.Dir(), r.Dir(), use
	return use.Leave, nil
}

// stays reports whether the container has something at a path that cannot be replaced.
func (b *bundle) stays(path string) bool { return b.use != nil && b.use.Stays(path) }

// coverKernel puts what can be had of a filesystem of the kernel in place.
func (b *bundle) coverKernel(c *rootfs.Cover, dir string) error {
	if b.stays(dir) {
		return nil // the container's
	}
	source := filepath.Join(b.dir, path.Base(dir))
	if err := os.Mkdir(source, 0o755); err != nil {
		return err
	}
	if dir == "/dev" {
		if err := makeDevices(source); err != nil {
			return fmt.Errorf("make devices: %w", err)
		}
	}
	return c.Show(source, dir)
}

// coverNetworkFile puts a file of /etc in place, unless a mount follows there, or the container has its own.
func (b *bundle) coverNetworkFile(c *rootfs.Cover, name string) error {
	target := "/etc/" + name
	if slices.ContainsFunc(b.p.Mounts, func(m Mount) bool { return path.Clean("/"+m.Target) == target }) {
		return nil
	}
	if b.stays(target) {
		if name == "hosts" && len(b.p.ExtraHosts) > 0 {
			return errors.New("the pod has its own: hosts cannot be added for a step, but by hostAliases of the pod")
		}
		return nil
	}
	return c.Show(filepath.Join(b.dir, name), target)
}

// ownPlain gives a file that was made for a mount to the user of the mount.
func (b *bundle) ownPlain(source string, m Mount) error {
	if b.use == nil {
		return own(source, m)
	}
	mode := uint32(m.Mode.Perm())
	if err := os.Chmod(source, os.FileMode(fakeroot.RealMode(mode))); err != nil {
		return err
	}
	return podroot.Own(b.p.Plain.Owners(), source, uint32(m.UID), uint32(m.GID), mode)
}

// plainMode returns the mode that a file of the root filesystem has for the process.
func (b *bundle) plainMode(path string, st *unix.Stat_t) (uint32, error) {
	mode := st.Mode
	if owners := b.p.Plain.Owners(); owners != nil {
		m, err := owners.Get(path, st)
		if err != nil {
			return 0, err
		}
		mode = m.Mode
	}
	return mode & 0o7777, nil
}

// makePlainDirectory makes a directory of root for a mount.
func (b *bundle) makePlainDirectory(path string, mode uint32) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	owners := b.p.Plain.Owners()
	if owners == nil {
		return unix.Chmod(path, mode)
	}
	if err := unix.Chmod(path, fakeroot.RealMode(unix.S_IFDIR|mode)); err != nil {
		return err
	}
	return podroot.Own(owners, path, 0, 0, mode)
}

// runPretended runs the process as a pretended root.
func (b *bundle) runPretended(ctx context.Context, cmd *chroot.Command, owners *rootfs.Owners) error {
	cmd.Root, cmd.Own, cmd.Held = "", true, b.use.Lock()
	return fakeroot.Run(ctx, cmd, owners.Table)
}
