// Package network gives processes a network of their own, without a daemon and without root: outgoing connections and
// DNS work, the host's loopback and its abstract sockets are out of reach, and nothing listens on the host but for ports
// that are published.
//
// Two network namespaces are made. The inner one is that of the processes. The router between it and pasta, which carries
// connections to the host's sockets (see pasta(1)), forwards what may pass: a process that writes packets of its own
// (CAP_NET_RAW) could make pasta connect to the host's loopback otherwise, as it could with Debian 12's.
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

// Namespace is a network namespace that reaches the world outside.
type Namespace struct {
	plan          plan
	inner, router *os.File
	resolv        []byte
	relays        relays
}

// Options say how a namespace is made.
type Options struct {
	Pasta string // its path: see Find
	// Nested is set inside a user namespace, whose root owns the namespaces then. Else nobody does, in a user namespace
	// with no other id: pasta has no rights on the host.
	Nested bool
	// MaxGroup is the highest id such that it and all below exist here: their processes may ping.
	MaxGroup uint32
}

// Find is the path of pasta, or the reason why processes cannot have a network of their own here.
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

// tunDevice is what pasta makes its interface with.
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

// Start makes a namespace. It is to be called on a thread whose children are to end with what else is started there, and
// must be able to find them in /proc.
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

// File is the namespace, for setns(2).
func (n *Namespace) File() *os.File { return n.inner }

// Address is that of the processes in the namespace.
func (n *Namespace) Address() netip.Addr { return n.plan.Address4 }

// Close ends what serves the namespace in this process. The namespace itself ends with the processes in it.
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

// attributes are those of the helper process.
func (o Options) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if !o.Nested {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}}
		attr.Cloneflags, attr.UidMappings, attr.GidMappings = unix.CLONE_NEWUSER, ids, ids
		attr.Credential = &syscall.Credential{NoSetGroups: true}
	}
	return attr
}
