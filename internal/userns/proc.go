package userns

import (
	"os"
	"path"
	"slices"

	"github.com/moby/sys/mountinfo"
)

// errMasked is why no process gets a /proc of its own in a namespace.
var errMasked = &RefusedError{"parts of /proc are masked in this container, and the kernel therefore mounts no /proc for a step: in Kubernetes, set procMount: Unmasked"}

// emptyMountPoints are directories of /proc that are always empty: a mount there hides nothing (proc_create_mount_point in the kernel).
var emptyMountPoints = []string{"/fs/nfsd", "/openprom", "/sys/fs/binfmt_misc"}

// masked reports whether a user namespace can mount no /proc: the kernel mounts one only where there is another of which no part is hidden
// (mount_too_revealing in fs/namespace.c).
func (h host) masked() bool {
	file, err := os.Open(h.proc + "/self/mountinfo")
	if err != nil {
		return false // an error will show it later
	}
	defer func() { _ = file.Close() }()
	mounts, err := mountinfo.GetMountsFromReader(file, nil)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool { return m.FSType == "proc" && m.Root == "/" && isWhole(m, mounts) })
}

// isWhole reports whether no mount hides a part of a /proc.
func isWhole(proc *mountinfo.Info, mounts []*mountinfo.Info) bool {
	return !slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool {
		hides := m.Parent == proc.ID && m.ID != proc.ID
		return hides && !slices.ContainsFunc(emptyMountPoints, func(dir string) bool { return m.Mountpoint == path.Join(proc.Mountpoint, dir) })
	})
}
