package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
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
	parts := strings.Split(v, ":")
	m.Type = sandbox.MountBind
	switch {
	case len(parts) == 1:
		m.Target, anonymous = parts[0], true
	case len(parts) <= 3:
		m.Source, m.Target = parts[0], parts[1]
	default:
		return m, false, fmt.Errorf("invalid volume specification: '%s'", v)
	}
	if len(parts) == 3 {
		for o := range strings.SplitSeq(parts[2], ",") {
			switch o {
			case "ro":
				m.ReadOnly = true
			case "rw", "z", "Z", "cached", "delegated", "consistent", "rprivate", "private":
			default:
				return m, false, fmt.Errorf("invalid volume specification: '%s': unknown option %q", v, o)
			}
		}
	}
	if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
		return m, false, fmt.Errorf("invalid volume specification: '%s': destination must be an absolute path other than /", v)
	}
	if anonymous {
		return m, true, nil
	}
	if !filepath.IsAbs(m.Source) {
		if !strings.HasPrefix(m.Source, ".") {
			return m, false, fmt.Errorf("invalid volume specification: '%s': named volumes are not supported: use a path", v)
		}
		if m.Source, err = filepath.Abs(m.Source); err != nil {
			return m, false, err
		}
	}
	if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
		// As docker does for -v.
		err = os.MkdirAll(m.Source, 0o755)
		if err != nil {
			return m, false, fmt.Errorf("invalid volume specification: '%s': %w", v, err)
		}
	}
	return m, false, nil
}
