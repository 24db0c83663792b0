package runtimespec

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Device is a device of the host's that a process may use.
type Device struct {
	Source string            // its path on the host
	Node   specs.LinuxDevice // what the process sees
	Access string            // of r, w and m (mknod)
}

// addDevices adds the device nodes for the runtime to make, and allows the process to use these and no others.
func (o *Options) addDevices(s *specs.Spec) error {
	if o.Host.Nested {
		if len(o.DeviceRules) > 0 {
			return errors.New("rules for devices need root: leave out --device-cgroup-rule")
		}
		return nil
	}
	for _, d := range o.Devices {
		major, minor := d.Node.Major, d.Node.Minor
		s.Linux.Devices = append(s.Linux.Devices, d.Node)
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: d.Node.Type, Major: &major, Minor: &minor, Access: d.Access,
		})
	}
	s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, o.DeviceRules...)
	return nil
}

// openDevices adds the devices that BuildKit gives a privileged process (util/entitlements/security): those for making
// filesystems, networks and virtual machines. In a user namespace no device nodes can be made.
func (o *Options) openDevices(s *specs.Spec) {
	if o.Host.Nested {
		return
	}
	s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Access: "rwm"}, {Allow: true, Type: "b", Access: "rwm"}}
	device := func(path, kind string, major, minor int64) {
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: path, Type: kind, Major: major, Minor: minor})
	}
	device("/dev/kmsg", "c", 1, 11)
	for _, d := range []struct {
		name  string
		minor int64
	}{{"cuse", 203}, {"fuse", 229}, {"kvm", 232}, {"net/tun", 200}, {"loop-control", 237}} {
		device("/dev/"+d.name, "c", 10, d.minor)
	}
	for i := range int64(8) {
		device(fmt.Sprintf("/dev/loop%d", i), "b", 7, i)
	}
}
