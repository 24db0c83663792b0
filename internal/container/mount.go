package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"github.com/micabuild/mica/internal/sandbox"
)

// Mount is a --mount as docker run takes it, with the checks and the words of Docker's daemon. The source of a volume is
// still missing.
func Mount(m mount.Mount) (sandbox.Mount, error) { return parseMount(m, false) }

// MountNamed is Mount where there are named volumes.
func MountNamed(m mount.Mount) (sandbox.Mount, error) { return parseMount(m, true) }

func parseMount(m mount.Mount, named bool) (sandbox.Mount, error) {
	s, err := checkedMount(m, named)
	if err == nil && m.Type == mount.TypeBind {
		err = findSource(m)
	}
	if err != nil {
		return s, fmt.Errorf("invalid mount config for type %q: %w", string(m.Type), err)
	}
	return s, nil
}

func checkedMount(m mount.Mount, named bool) (sandbox.Mount, error) {
	s := sandbox.Mount{Type: sandbox.MountBind, Target: m.Target, ReadOnly: m.ReadOnly}
	switch {
	case m.Target == "":
		return s, errors.New("field Target must not be empty")
	case path.Clean(m.Target) == "/":
		return s, errors.New("invalid specification: destination can't be '/'")
	case !path.IsAbs(m.Target):
		return s, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", m.Target)
	}
	switch m.Type {
	case mount.TypeBind:
		return bindMount(s, m)
	case mount.TypeVolume:
		if named {
			return s, checkNamedVolume(m)
		}
		return s, checkVolume(m)
	case mount.TypeTmpfs:
		if m.Source != "" {
			return s, errors.New("field Source must not be specified")
		}
		return tmpfsMount(m)
	case mount.TypeImage, mount.TypeNamedPipe, mount.TypeCluster:
		return s, errors.New("mica has bind, volume and tmpfs mounts: use one of these")
	}
	return s, errors.New("mount type unknown")
}

// bindMount shows a file or directory of the host's. mica's mounts are seen by the container alone, and do not follow the host's.
func bindMount(s sandbox.Mount, m mount.Mount) (sandbox.Mount, error) {
	o := m.BindOptions
	if o == nil {
		o = &mount.BindOptions{}
	}
	switch o.Propagation {
	case "", mount.PropagationPrivate, mount.PropagationRPrivate:
	case mount.PropagationShared, mount.PropagationRShared, mount.PropagationSlave, mount.PropagationRSlave:
		return s, fmt.Errorf("bind-propagation %s is not possible: the mounts of a container are its own: use rprivate", o.Propagation)
	default:
		return s, fmt.Errorf("invalid propagation mode: %s", o.Propagation)
	}
	switch {
	case o.ReadOnlyNonRecursive && !m.ReadOnly:
		return s, errors.New("mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive")
	case o.ReadOnlyForceRecursive && !m.ReadOnly:
		return s, errors.New("mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive")
	case o.ReadOnlyNonRecursive && o.ReadOnlyForceRecursive:
		return s, errors.New("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")
	case m.Source == "":
		return s, errors.New("field Source must not be empty")
	case !filepath.IsAbs(m.Source):
		return s, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	s.Source, s.TopOnly, s.TopReadOnly = m.Source, o.NonRecursive, o.ReadOnlyNonRecursive
	return s, nil
}

// findSource reports a source that is missing, which is made where that is asked for.
func findSource(m mount.Mount) error {
	_, err := os.Stat(m.Source)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case m.BindOptions != nil && m.BindOptions.CreateMountpoint:
		return os.MkdirAll(m.Source, 0o755)
	}
	return fmt.Errorf("bind source path does not exist: %s", m.Source)
}

// checkVolume refuses the volumes that outlive a container.
func checkVolume(m mount.Mount) error {
	o := m.VolumeOptions
	switch {
	case m.Source != "":
		return fmt.Errorf("named volumes are not supported: %s: use type=bind with a path", m.Source)
	case o == nil:
		return nil
	case o.Subpath != "":
		return errors.New("volume-subpath needs a named volume, which mica has not")
	}
	return checkDriver(o)
}

// checkNamedVolume refuses what a volume of the store cannot have.
func checkNamedVolume(m mount.Mount) error {
	if o := m.VolumeOptions; o != nil && o.Subpath != "" {
		switch {
		case m.Source == "":
			return errors.New("must not set Subpath when using anonymous volumes")
		case !filepath.IsLocal(o.Subpath):
			return errors.New("subpath must be a relative path within the volume")
		}
	}
	return checkDriver(m.VolumeOptions)
}

// checkDriver refuses volumes that are not directories of the store.
func checkDriver(o *mount.VolumeOptions) error {
	if o != nil && o.DriverConfig != nil && (o.DriverConfig.Name != "" && o.DriverConfig.Name != "local" || len(o.DriverConfig.Options) > 0) {
		return errors.New("volume drivers are not supported: use type=bind with a path")
	}
	return nil
}

// SortMounts puts mounts before those below them.
func SortMounts(mounts []sandbox.Mount) {
	slices.SortStableFunc(mounts, func(a, b sandbox.Mount) int {
		return strings.Count(path.Clean(a.Target), "/") - strings.Count(path.Clean(b.Target), "/")
	})
}

// tmpfsMount has the options of --tmpfs, as the daemon makes them of --mount's.
func tmpfsMount(m mount.Mount) (sandbox.Mount, error) {
	s := tmpfs(m.Target, "")
	s.ReadOnly = m.ReadOnly
	o := m.TmpfsOptions
	if o == nil {
		return s, nil
	}
	if o.SizeBytes < 0 {
		return s, fmt.Errorf("invalid size of a tmpfs: %d", o.SizeBytes)
	}
	s.Size = o.SizeBytes
	if o.Mode != 0 {
		s.Options += fmt.Sprintf(",mode=%o", o.Mode)
	}
	for _, option := range o.Options {
		switch {
		case len(option) < 1 || len(option) > 2:
			return s, errors.New("invalid option array length")
		case option[0] != "exec" && option[0] != "noexec":
			return s, fmt.Errorf("invalid option: %s", option[0])
		}
		s.Options += "," + option[0] // what is given comes after Docker's
	}
	return s, nil
}

// CheckDuplicates refuses two mounts that were asked for on one target.
func CheckDuplicates(mounts []sandbox.Mount) error {
	for i, m := range mounts {
		same := func(other sandbox.Mount) bool { return path.Clean(other.Target) == path.Clean(m.Target) }
		if slices.ContainsFunc(mounts[:i], same) {
			return fmt.Errorf("Duplicate mount point: %s", m.Target) //nolint:staticcheck // Docker's words
		}
	}
	return nil
}
