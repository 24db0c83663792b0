package sandbox

import (
	"errors"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Device is a device of the host's that a process may use.
type Device struct {
	Source string            // its path on the host
	Node   specs.LinuxDevice // what the process sees
	Access string            // of r, w and m (mknod)
}

// withDevices returns p with mounts in place of devices in a user namespace, in which no device nodes can be made. The process
// has the user's permissions on them.
func (p *Process) withDevices(nested bool) *Process {
	if !nested || len(p.Devices) == 0 {
		return p
	}
	with := *p
	with.Mounts = slices.Clone(p.Mounts)
	for _, d := range p.Devices {
		with.Mounts = append(with.Mounts, Mount{Type: MountBind, Source: d.Source, Target: d.Node.Path})
	}
	return &with
}

// addDevices adds the device nodes for the runtime to make, and allows the process to use these and no others.
func (b *bundle) addDevices(s *specs.Spec) error {
	if b.host.Nested() {
		if len(b.p.DeviceRules) > 0 {
			return errors.New("rules for devices need root: leave out --device-cgroup-rule")
		}
		return nil
	}
	for _, d := range b.p.Devices {
		major, minor := d.Node.Major, d.Node.Minor
		s.Linux.Devices = append(s.Linux.Devices, d.Node)
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: d.Node.Type, Major: &major, Minor: &minor, Access: d.Access,
		})
	}
	s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, b.p.DeviceRules...)
	return nil
}
