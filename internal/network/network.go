// Package network gives processes a network of their own, without a daemon and without root. Outgoing connections and DNS work,
// the host's loopback and its abstract sockets cannot be reached, and only published ports listen on the host.
//
// It makes two network namespaces. The inner one is that of the processes. The other one is a router between it and pasta, which
// translates connections to sockets of the host (see pasta(1)). The router forwards only packets that are allowed: otherwise a
// process that forges packets (CAP_NET_RAW) could make pasta connect to the host's loopback, as with Debian 12's pasta.
package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace with a connection to the outside.
type Namespace struct {
	plan          plan
	inner, router *os.File
	resolv        []byte
	relays        relays
}

// Options configures a namespace.
type Options struct {
	Pasta string // its path: see Find
	// Nested is set inside a user namespace, whose root then owns the network namespaces. Otherwise their owner is nobody, in a
	// user namespace without other ids, so that pasta has no rights on the host.
	Nested bool
	// MaxGroup is the last of the group ids from 0 on that exist here: their processes may ping.
	MaxGroup uint32
}

// Find returns the path of pasta, or the reason why processes cannot have a network of their own.
func Find(nested bool) (string, error) {
	pasta, err := exec.LookPath("pasta")
	if err != nil {
		return "", errors.New("pasta is not on PATH: install the package passt")
	}
	if err := checkTun(nested); err != nil {
		return "", err
	}
	return filepath.Abs(pasta)
}

// tunDevice is the device with which pasta makes its interface.
const tunDevice = "/dev/net/tun"

func checkTun(nested bool) error {
	info, err := os.Stat(tunDevice)
	if err != nil {
		return fmt.Errorf("%s is missing: load the kernel module tun", tunDevice)
	}
	open := info.Mode().Perm()&0o006 == 0o006
	if nested {
		open = unix.Access(tunDevice, unix.R_OK|unix.W_OK) == nil
	}
	if !open {
		return fmt.Errorf("%s is not open to everybody: chmod 0666 %[1]s, as udev does", tunDevice)
	}
	return nil
}

// Start makes a namespace. The pid namespace of the calling thread's children determines when the network's processes end. The
// thread must find its children in /proc.
func Start(o Options) (*Namespace, error) {
	p, err := newPlan(o.Pasta)
	if err != nil {
		return nil, fmt.Errorf("make network: %w", err)
	}
	n := &Namespace{plan: p}
	if err := n.start(o); err != nil {
		return nil, errors.Join(fmt.Errorf("make network: %w", err), n.Close())
	}
	return n, nil
}

func (n *Namespace) start(o Options) error {
	if err := n.runHelper(o); err != nil {
		return err
	}
	if err := n.allowPing(o.MaxGroup); err != nil {
		return err
	}
	return n.prepareDNS()
}

// allowPing lets every process ping, and listen on every port, as Docker does (moby/moby daemon/oci_linux.go).
func (n *Namespace) allowPing(maxGroup uint32) error {
	return inside(n.inner, func() error {
		maxGroup = min(maxGroup, 1<<31-1)
		// A /proc/sys that is read-only keeps the defaults.
		_ = setSysctl("ipv4/ping_group_range", fmt.Sprintf("0 %d", maxGroup))
		_ = setSysctl("ipv4/ip_unprivileged_port_start", "0")
		return nil
	})
}

// File returns the namespace, for setns(2).
func (n *Namespace) File() *os.File { return n.inner }

// Address returns the address of the processes in the namespace.
func (n *Namespace) Address() netip.Addr { return n.plan.Address4 }

// Close ends the relays of the namespace in this process. The namespace itself ends with the processes in it.
func (n *Namespace) Close() error {
	n.relays.close()
	for _, f := range []*os.File{n.inner, n.router} {
		if f != nil {
			_ = f.Close()
		}
	}
	return nil
}

// nobody is the user who owns the namespaces that root makes.
const nobody = 65534

// attributes returns the attributes of the helper process.
func (o Options) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if !o.Nested {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}}
		attr.Cloneflags, attr.UidMappings, attr.GidMappings = unix.CLONE_NEWUSER, ids, ids
		attr.Credential = &syscall.Credential{NoSetGroups: true}
	}
	return attr
}
