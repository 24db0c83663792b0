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

	"github.com/docker/go-units"

	"github.com/micabuild/mica/internal/sandbox"
)

// Tmpfs is a --tmpfs path[:options].
func Tmpfs(flag string) (sandbox.Mount, error) {
	target, options, _ := strings.Cut(flag, ":")
	if !path.IsAbs(target) {
		return sandbox.Mount{}, fmt.Errorf("invalid tmpfs %q: the path must be absolute", flag)
	}
	return tmpfs(target, options), nil
}

// tmpfs has docker's options size and mode, and those of mount(8).
func tmpfs(target, options string) sandbox.Mount {
	m := sandbox.Mount{Type: sandbox.MountTmpfs, Target: target}
	rest := []string{"nodev", "noexec"} // docker's; options that are given come after
	for o := range strings.SplitSeq(options, ",") {
		if size, ok := strings.CutPrefix(o, "size="); ok {
			if n, err := units.RAMInBytes(size); err == nil {
				m.Size = n
				continue
			}
		}
		if o != "" {
			rest = append(rest, o)
		}
	}
	m.Options = strings.Join(rest, ",")
	return m
}

// ParseVolume reads host-path:path[:options], or a path alone for an anonymous volume.
func ParseVolume(v string) (m sandbox.Mount, anonymous bool, err error) {
	m, name, err := splitVolume(v)
	if err != nil || m.Source == "" && name == "" {
		return m, true, err
	}
	if name != "" {
		if !strings.HasPrefix(name, ".") {
			return m, false, fmt.Errorf("invalid volume specification: '%s': named volumes are not supported: use a path", v)
		}
		if m.Source, err = filepath.Abs(name); err != nil {
			return m, false, err
		}
	}
	return m, false, makeSource(v, m.Source)
}

// ParseBind reads one of the Binds of docker's API: path:path[:options], or name:path[:options] for a volume, which has the option nocopy, too.
func ParseBind(v string) (m sandbox.Mount, name string, noCopy bool, err error) {
	parts := strings.Split(v, ":")
	if len(parts) == 3 {
		options := strings.Split(parts[2], ",")
		if at := slices.Index(options, "nocopy"); at >= 0 {
			noCopy = true
			v = strings.Join(parts[:2], ":")
			if options = slices.Delete(options, at, at+1); len(options) > 0 {
				v += ":" + strings.Join(options, ",")
			}
		}
	}
	m, name, err = splitVolume(v)
	switch {
	case err != nil:
		return m, "", false, err
	case len(parts) == 1 || noCopy && name == "":
		return m, "", false, fmt.Errorf("invalid volume specification: '%s'", v)
	case name != "":
		return m, name, noCopy, nil
	}
	return m, "", false, makeSource(v, m.Source)
}

// splitVolume reads [SOURCE:]TARGET[:OPTIONS]. A source that is no absolute path is returned as a name.
func splitVolume(v string) (m sandbox.Mount, name string, err error) {
	parts := strings.Split(v, ":")
	m.Type = sandbox.MountBind
	switch {
	case len(parts) == 1:
		m.Target = parts[0]
	case len(parts) <= 3 && parts[0] != "":
		m.Source, m.Target = parts[0], parts[1]
	default:
		return m, "", fmt.Errorf("invalid volume specification: '%s'", v)
	}
	if len(parts) == 3 {
		if m.ReadOnly, err = bindMode(v, parts[2]); err != nil {
			return m, "", err
		}
	}
	if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
		return m, "", fmt.Errorf("invalid volume specification: '%s': destination must be an absolute path other than /", v)
	}
	if m.Source != "" && !filepath.IsAbs(m.Source) {
		m.Source, name = "", m.Source
	}
	return m, name, nil
}

// modeKinds are the kinds of the options of a bind, of each of which it has one at most.
var modeKinds = map[string]string{
	"ro": "access", "rw": "access", "z": "label", "Z": "label", "cached": "consistency", "delegated": "consistency", "consistent": "consistency",
	"rprivate": "propagation", "private": "propagation",
}

// bindMode reads the options of a volume.
func bindMode(v, mode string) (readOnly bool, err error) {
	given := map[string]bool{}
	for o := range strings.SplitSeq(mode, ",") {
		kind, ok := modeKinds[o]
		switch {
		case !ok:
			return false, fmt.Errorf("invalid volume specification: '%s': unknown option %q", v, o)
		case given[kind]:
			return false, fmt.Errorf("invalid mode: %s", mode)
		}
		given[kind] = true
		readOnly = readOnly || o == "ro"
	}
	return readOnly, nil
}

// makeSource makes the directory that is to be mounted if there is nothing, as docker does for -v.
func makeSource(v, source string) error {
	if _, err := os.Stat(source); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.MkdirAll(source, 0o755); err != nil {
		return fmt.Errorf("invalid volume specification: '%s': %w", v, err)
	}
	return nil
}
