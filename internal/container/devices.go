// Package container is the grammar of docker run's options: from text, or from the types of docker's API, to the process that mica runs. The
// errors are those of docker and its daemon.
package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/cdi"
	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/sandbox"
)

// Devices are those of the host that a container gets.
type Devices struct {
	Nodes []string // --device: path[:path-in-container][:rwm], or a name of CDI
	Rules []string // --device-cgroup-rule
	GPUs  []container.DeviceRequest
}

// Check finds mistakes before anything is done.
func (d *Devices) Check() error {
	for _, flag := range d.Nodes {
		if _, err := parseDevice(flag); err != nil && !cdi.IsName(flag) {
			return err
		}
	}
	for _, rule := range d.Rules {
		if _, err := parseDeviceRule(rule); err != nil {
			return err
		}
	}
	_, err := gpuNames(d.GPUs)
	return err
}

// Apply gives p the devices.
func (d *Devices) Apply(p *sandbox.Process) error {
	var named []string
	for _, flag := range d.Nodes {
		if cdi.IsName(flag) {
			named = append(named, flag)
			continue
		}
		given, err := parseDevice(flag)
		if err != nil {
			return err
		}
		devices, err := given.find()
		if err != nil {
			return fmt.Errorf("error gathering device information while adding custom device %q: %w", given.source, cause(err))
		}
		p.Devices = append(p.Devices, devices...)
	}
	for _, flag := range d.Rules {
		rule, err := parseDeviceRule(flag)
		if err != nil {
			return err
		}
		p.DeviceRules = append(p.DeviceRules, rule)
	}
	if err := addNamed(p, named); err != nil {
		return fmt.Errorf("CDI device injection failed: %w", err)
	}
	gpus, err := gpuNames(d.GPUs)
	if err != nil {
		return err
	}
	err = addNamed(p, gpus)
	if errors.Is(err, cdi.ErrUnresolved) {
		return fmt.Errorf(`could not select device driver "" with capabilities: [[gpu]]: %w: "nvidia-ctk cdi generate" describes NVIDIA's`, err)
	}
	return err
}

// cause is what went wrong with a file, without the file's name.
func cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// deviceFlag is a --device.
type deviceFlag struct{ source, target, access string }

// parseDevice reads path[:path-in-container][:rwm], with docker's words for what is wrong.
func parseDevice(flag string) (deviceFlag, error) {
	d := deviceFlag{access: "rwm"}
	parts := strings.Split(flag, ":")
	if len(parts) > 3 || parts[0] == "" {
		return d, fmt.Errorf("bad format for path: %s", flag)
	}
	d.source, d.target = parts[0], parts[0]
	switch {
	case len(parts) == 3 && !isDeviceAccess(parts[2]):
		return d, fmt.Errorf("bad mode specified: %s", parts[2])
	case len(parts) == 3:
		d.target, d.access = parts[1], parts[2]
	case len(parts) == 2 && isDeviceAccess(parts[1]):
		d.access = parts[1]
	case len(parts) == 2:
		d.target = parts[1]
	}
	if !path.IsAbs(d.target) {
		return d, fmt.Errorf("%s is not an absolute path", d.target)
	}
	d.target = path.Clean(d.target)
	return d, nil
}

// isDeviceAccess reports whether a text has some of r, w and m, each once.
func isDeviceAccess(text string) bool {
	for i, c := range text {
		if !strings.ContainsRune("rwm", c) || strings.ContainsRune(text[:i], c) {
			return false
		}
	}
	return text != ""
}

// find is the device at the path, or all that are in a directory.
func (d deviceFlag) find() ([]runtimespec.Device, error) {
	source, err := filepath.EvalSymlinks(d.source)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		found, err := deviceAt(source, d.target, d.access)
		return []runtimespec.Device{found}, err
	}
	var list []runtimespec.Device
	err = filepath.WalkDir(source, func(at string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeDevice == 0 {
			return nil //nolint:nilerr // as Docker passes over what it cannot read
		}
		found, err := deviceAt(at, d.target+strings.TrimPrefix(at, source), d.access)
		list = append(list, found)
		return err
	})
	if err == nil && len(list) == 0 {
		err = errNoDevice
	}
	return list, err
}

var errNoDevice = errors.New("not a device node")

// deviceAt is a device node of the host's as a container has it.
func deviceAt(source, target, access string) (runtimespec.Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(source, &st); err != nil {
		return runtimespec.Device{}, err
	}
	kind, ok := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[st.Mode&unix.S_IFMT]
	if !ok {
		return runtimespec.Device{}, errNoDevice
	}
	mode := os.FileMode(st.Mode & 0o777)
	return runtimespec.Device{Source: source, Access: access, Node: specs.LinuxDevice{
		Path: target, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}}, nil
}

var deviceRule = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`) })

// parseDeviceRule reads "type major:minor access".
func parseDeviceRule(flag string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRule().FindStringSubmatch(flag)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, fmt.Errorf("invalid argument %q for \"--device-cgroup-rule\" flag: invalid device cgroup format '%s'", flag, flag)
	}
	rule := specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: m[4]}
	for text, to := range map[string]**int64{"major " + m[2]: &rule.Major, "minor " + m[3]: &rule.Minor} {
		_, text, _ = strings.Cut(text, " ")
		if text == "*" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return rule, fmt.Errorf("invalid device cgroup format '%s': %w", flag, errors.Unwrap(err))
		}
		*to = &n
	}
	return rule, nil
}

// maxGPUs bounds the count of --gpus.
const maxGPUs = 1024

// gpuKinds are what drivers call their devices in CDI. Without a name it is NVIDIA's.
var gpuKinds = map[string]string{"": "nvidia.com/gpu", "nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}

// gpuNames are the devices of --gpus by their names in CDI.
func gpuNames(requests []container.DeviceRequest) ([]string, error) {
	var names []string
	for _, r := range requests {
		kind, ok := gpuKinds[r.Driver]
		switch {
		case r.Driver == "cdi":
			names = append(names, r.DeviceIDs...)
			continue
		case !ok:
			return nil, fmt.Errorf("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
		case r.Count != 0 && len(r.DeviceIDs) > 0:
			return nil, errors.New("cannot set both Count and DeviceIDs on device request")
		case r.Count < -1 || r.Count > maxGPUs:
			return nil, fmt.Errorf("invalid count (%d): use all or a number of GPUs", r.Count)
		case r.Count == -1:
			names = append(names, kind+"=all")
		}
		for i := range max(r.Count, 0) {
			names = append(names, kind+"="+strconv.Itoa(i))
		}
		for _, id := range r.DeviceIDs {
			names = append(names, kind+"="+id)
		}
	}
	for _, name := range names {
		if !cdi.IsName(name) {
			return nil, fmt.Errorf("invalid CDI device name %q: use vendor/class=name", name)
		}
	}
	return names, nil
}
