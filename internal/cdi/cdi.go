// Package cdi finds devices by their names in the Container Device Interface
// (https://github.com/cncf-tags/container-device-interface).
package cdi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
	"tags.cncf.io/container-device-interface/specs-go"
)

// dirs are the directories of specifications. A later directory takes precedence.
var dirs = []string{"/etc/cdi", "/var/run/cdi"}

// maxSpec is the largest size of a specification; usual ones have some ten kilobytes.
const maxSpec = 4 << 20

// IsName reports whether name has the form of a device name, vendor.com/class=name.
func IsName(name string) bool {
	kind, device, ok := strings.Cut(name, "=")
	return ok && kinds().MatchString(kind) && deviceNames().MatchString(device)
}

// The grammar of names, from the specification.
var (
	kinds = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?$`)
	})
	deviceNames = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$`) })
)

// ErrUnresolved is the error for devices that no specification has.
var ErrUnresolved = errors.New("unresolvable CDI devices")

// Find returns the edits for devices: the common edits of each specification once, and the edits of each device.
func Find(names []string) ([]specs.ContainerEdits, error) { return find(dirs, names) }

func find(dirs, names []string) ([]specs.ContainerEdits, error) {
	if len(names) == 0 {
		return nil, nil
	}
	registry, err := load(dirs)
	if err != nil {
		return nil, err
	}
	var edits []specs.ContainerEdits
	var used []*specs.Spec
	var missing []string
	for _, name := range names {
		d, err := registry.device(name)
		if errors.Is(err, ErrUnresolved) {
			missing = append(missing, name)
			continue
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(used, d.spec) {
			used = append(used, d.spec)
			edits = append(edits, d.spec.ContainerEdits)
		}
		edits = append(edits, d.edits)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w %s: looked in %s", ErrUnresolved, strings.Join(missing, ", "), strings.Join(dirs, " and "))
	}
	return edits, nil
}

// device is a device of one specification.
type device struct {
	spec     *specs.Spec
	file     string
	edits    specs.ContainerEdits
	conflict string // another file of the same directory with this device
}

// registry has the devices by name, and the errors of specifications that cannot be read.
type registry struct {
	devices map[string]device
	broken  []error
}

func (r *registry) device(name string) (device, error) {
	d, ok := r.devices[name]
	switch {
	case ok && d.conflict != "":
		return d, fmt.Errorf("CDI device %s: both %s and %s have it: remove one", name, d.conflict, d.file)
	case !ok && len(r.broken) > 0:
		return d, r.broken[0]
	case !ok:
		return d, ErrUnresolved
	}
	return d, nil
}

func load(dirs []string) (*registry, error) {
	r := &registry{devices: map[string]device{}}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read CDI specifications: %w", err)
		}
		here := map[string]device{}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext == ".json" || ext == ".yaml" {
				r.add(here, filepath.Join(dir, e.Name()))
			}
		}
		for name, d := range here {
			r.devices[name] = d
		}
	}
	return r, nil
}

// add adds the devices of one file to those of its directory.
func (r *registry) add(to map[string]device, file string) {
	spec, err := read(file)
	if err != nil {
		r.broken = append(r.broken, fmt.Errorf("read CDI specification %s: %w", file, err))
		return
	}
	for _, d := range spec.Devices {
		name := spec.Kind + "=" + d.Name
		to[name] = device{spec: spec, file: file, edits: d.ContainerEdits, conflict: to[name].file}
	}
}

func read(file string) (*specs.Spec, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSpec {
		return nil, fmt.Errorf("not a regular file of at most %d MiB", maxSpec>>20)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parse(data)
}

// parse reads a specification in YAML, which includes JSON.
func parse(data []byte) (*specs.Spec, error) {
	var spec specs.Spec
	if err := yaml.Unmarshal(data, &spec); err != nil {
		return nil, err
	}
	if !kinds().MatchString(spec.Kind) {
		return nil, fmt.Errorf("invalid kind %q: it is vendor/class", spec.Kind)
	}
	for _, d := range spec.Devices {
		if !deviceNames().MatchString(d.Name) {
			return nil, fmt.Errorf("invalid device name %q", d.Name)
		}
		if err := check(d.ContainerEdits); err != nil {
			return nil, fmt.Errorf("device %s: %w", d.Name, err)
		}
	}
	return &spec, check(spec.ContainerEdits)
}

// check refuses incomplete edits, and the rare ones that mica does not support.
func check(e specs.ContainerEdits) error {
	for _, n := range e.DeviceNodes {
		if n == nil || !filepath.IsAbs(n.Path) {
			return errors.New("a device node needs an absolute path")
		}
	}
	for _, m := range e.Mounts {
		if m == nil || m.HostPath == "" || !filepath.IsAbs(m.ContainerPath) || filepath.Clean(m.ContainerPath) == "/" {
			return errors.New("a mount needs a hostPath and an absolute containerPath")
		}
	}
	for _, h := range e.Hooks {
		if h == nil || !filepath.IsAbs(h.Path) {
			return errors.New("a hook needs an absolute path")
		}
	}
	for _, v := range e.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return fmt.Errorf("invalid environment variable %q", v)
		}
	}
	if len(e.NetDevices) > 0 || e.IntelRdt != nil {
		return errors.New("netDevices and intelRdt are not supported")
	}
	return nil
}
