package runtimespec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultCapabilities are what Docker gives a container (moby/moby oci/caps/defaults.go).
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// allCapabilities are those that Linux has (capability.h), in its order.
var allCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
	"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
	"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// capabilities applies --cap-add and --cap-drop to the defaults, as docker run does: ALL first, then single ones. A process on
// the host's network gets no CAP_NET_RAW, with which it could forge packets.
func (o *Options) capabilities() ([]string, error) {
	add, err := normalizeCaps(o.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, err := normalizeCaps(o.CapDrop)
	if err != nil {
		return nil, err
	}
	caps := slices.Clone(defaultCapabilities)
	if o.HostNetwork {
		caps = slices.DeleteFunc(caps, func(c string) bool { return c == "CAP_NET_RAW" })
	}
	if o.Privileged || slices.Contains(add, "ALL") {
		caps = slices.Clone(allCapabilities)
	}
	if o.Privileged {
		// All that mica has: in a container these may be fewer.
		caps = slices.DeleteFunc(caps, func(c string) bool { return !slices.Contains(o.Host.Capabilities, c) })
	}
	if slices.Contains(drop, "ALL") {
		caps = nil
	}
	for _, c := range add {
		if c != "ALL" && !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return slices.DeleteFunc(caps, func(c string) bool { return slices.Contains(drop, c) }), nil
}

// HeldCapabilities returns the capabilities of this process.
func HeldCapabilities() []string {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return allCapabilities
	}
	var held []string
	for i, c := range allCapabilities {
		if data[i/32].Permitted&(1<<(i%32)) != 0 {
			held = append(held, c)
		}
	}
	return held
}

// CheckCapabilities refuses names that are not those of capabilities, nor "ALL".
func CheckCapabilities(names []string) error {
	_, err := normalizeCaps(names)
	return err
}

// normalizeCaps turns "net_admin" into CAP_NET_ADMIN.
func normalizeCaps(names []string) ([]string, error) {
	var caps []string
	for _, n := range names {
		c := strings.ToUpper(n)
		if c != "ALL" {
			c = "CAP_" + strings.TrimPrefix(c, "CAP_")
			if !slices.Contains(allCapabilities, c) {
				return nil, fmt.Errorf("unknown capability: %q", c)
			}
		}
		caps = append(caps, c)
	}
	return caps, nil
}

// processCapabilities returns the sets of a process: root has all capabilities, another user gains them only by executing a
// file that grants them.
func processCapabilities(caps []string, uid uint32) *specs.LinuxCapabilities {
	c := &specs.LinuxCapabilities{Bounding: caps}
	if uid == 0 {
		c.Effective, c.Permitted = caps, caps
	}
	return c
}
