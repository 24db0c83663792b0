// Package sandbox runs a process in a root filesystem through an OCI runtime.
package sandbox

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"github.com/micabuild/mica/internal/cgroup"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/overlay"
	"github.com/micabuild/mica/internal/podroot"
	"github.com/micabuild/mica/internal/rootfs"
	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/userns"
)

// Host starts processes. Their mounts live in a mount namespace and they themselves in a pid namespace which end with
// this process, however it ends: nothing stays mounted and nothing keeps running.
type Host struct {
	store   *store.Store
	runtime string
	ids     userns.IDs
	owner   string // of cgroups
	cgroup  string // that is delegated to an ordinary user
	refused error  // why no process can run; nil if they can
	plain   bool   // processes run without namespaces, in Process.Plain

	podRoot *podroot.Root // where they run; nil to run them by chroot
	owners  *rootfs.Owners

	mu   sync.Mutex
	init *initProcess
	own  *ownNetwork
}

// NewHost returns a host that runs processes with an OCI runtime (see [ociruntime.Find] for its name). It starts nothing yet.
// Without a runtime only Run fails: most commands run no process.
func NewHost(s *store.Store, runtime string) (*Host, error) {
	path, err := ociruntime.Find(runtime)
	if err != nil {
		return nil, err
	}
	h := &Host{store: s, runtime: path, ids: userns.Current(), owner: cgroupOwner()}
	if h.ids.Nested() {
		h.cgroup = cgroup.Delegated()
	}
	return h, nil
}

// Refuse makes Run fail with an error, for a host that cannot isolate processes. Nil changes nothing.
func (h *Host) Refuse(err error) { h.refused = err }

// Refused returns the error with which every process fails here, nil if processes can run.
func (h *Host) Refused() error { return h.refused }

// Close ends the processes and mounts that Run keeps between runs.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.init == nil {
		return nil
	}
	init := h.init
	h.init = nil
	if h.own == nil {
		return init.stop()
	}
	// The network's processes take 50 ms to end, and nothing here depends on them.
	init.leave()
	return h.own.close()
}

// MountType is the kind of source of a Mount.
type MountType int

// The types of mounts.
const (
	MountBind   MountType = iota // Source: a path of the host
	MountUnion                   // Union: a chain of layers
	MountTmpfs                   // Size, Options
	MountSecret                  // Data, in a file in memory; Mode, UID, GID
	MountSocket                  // Serve, behind a socket; Mode, UID, GID
	MountPlain                   // Source: files that belong to the process alone; only with Process.Plain

	mountInit // this program
)

// Mount is mounted over the root filesystem.
type Mount struct {
	Type     MountType
	Target   string // in the container
	Source   string
	Union    overlay.Options
	Selector string // of a chain or of Source: only this path in it, found inside it; "" for the whole
	ReadOnly bool
	Shared   bool // other processes that are not trusted write to Source
	// TopOnly leaves out mounts below Source. TopReadOnly applies ReadOnly to Source alone and not to mounts below it.
	TopOnly, TopReadOnly bool
	Size                 int64  // of a tmpfs, in bytes; 0 for the kernel's default
	Options              string // of a tmpfs, more mount options, comma-separated
	Data                 []byte
	Serve                func(net.Conn) // called for each connection, which it closes
	Mode                 os.FileMode
	UID, GID             int
}

// Network selects the network of a process.
type Network int

// The networks that need neither a daemon nor privileges.
const (
	NetworkHost  Network = iota // the host's own
	NetworkNone                 // a loopback device only
	NetworkOwn                  // one that all such processes share; the host's, where that is not possible
	NetworkProxy                // a loopback device only, with Proxy at network.ProxyAddress
)

// Process is one process to run.
type Process struct {
	Root overlay.Options
	// Plain is the root filesystem, in place of Root, where Host.Plain.
	Plain        *rootfs.Tree
	ReadOnlyRoot bool
	// Dir is a directory, of which Open uses the name alone: on it the files of the container are mounted, where nobody else sees them. "" is
	// for a new one in the store.
	Dir       string
	Args, Env []string
	// Init runs an init as process 1. It starts the command, forwards signals and reaps processes.
	Init        bool
	Cwd         string // made in the root filesystem if it is missing
	RootOwnsCwd bool   // a directory made for Cwd belongs to root, not to the user
	User        string // "", name, uid, name:group, uid:gid; found in the root filesystem's passwd and group files
	Groups      []string
	Mounts      []Mount
	Network     Network
	// NetworkMade is called before the process starts, with the network of NetworkOwn or the reason why there is none. If it
	// returns an error, the process does not start.
	NetworkMade func(*network.Namespace, error) error
	// Proxy serves the connections to the proxy of NetworkProxy. It is called before the process starts. The listener is closed when the
	// process has ended, and Run returns when Proxy has.
	Proxy func(net.Listener)
	// Authority is a certificate authority in PEM that programs trust while the process runs: it is in the root filesystem's own list, "" for
	// none. No layer has it.
	Authority  []byte
	Hostname   string // "" for BuildKit's
	ExtraHosts []network.ExtraHost
	Resolver   network.Resolver
	// WritableHosts lets the process change /etc/hosts, /etc/resolv.conf and /etc/hostname, as in a container. In a build the
	// first two are read-only and there is no /etc/hostname.
	WritableHosts bool
	// Seal makes the Upper of Root and of Mounts immutable: after Run has returned nil, no process can change them, whatever
	// descriptors it has.
	Seal bool
	runtimespec.Settings
	CgroupParent string // the cgroup in which that of the process is made, below the one that is delegated to an ordinary user
	// TTY gives the process a terminal; Stdin, Stdout and Stderr then are the user's own.
	TTY            bool
	Stdin          io.Reader // nil for none
	Stdout, Stderr io.Writer
	Signals        <-chan os.Signal // forwarded to the process
}

// Run starts p and waits for it. If the process fails, it returns an [ociruntime.ExitError], and an [ociruntime.StartError] if
// the process cannot be started. Mount points made for the process are gone from Root.Upper when Run returns. Cancelling ctx
// kills all processes that p has started.
func (h *Host) Run(ctx context.Context, p *Process) error {
	if h.plain && h.refused == nil {
		return h.runPlain(ctx, p)
	}
	init, err := h.readyInit()
	if err != nil {
		return err
	}
	tmp, err := h.store.TempDir("run")
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- inNamespaces(init, crash.Guard(func() error { return h.run(ctx, p, tmp.Path) })) }()
	err = <-done
	if removed := tmp.Remove(); err == nil {
		err = removed
	}
	return err
}

// readyInit returns the init process when it is ready.
func (h *Host) readyInit() (*initProcess, error) {
	if h.runtime == "" && h.refused == nil {
		return nil, errors.New("no OCI runtime is on PATH: install crun or runc")
	}
	init, err := h.started()
	if err != nil {
		return nil, err
	}
	return init, init.ready()
}

// started returns the init process, and starts it first if necessary. It may not be ready.
func (h *Host) started() (*initProcess, error) {
	if h.refused != nil {
		return nil, h.refused
	}
	if h.plain {
		return nil, errPlain
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.init == nil {
		if !h.ids.Nested() {
			RemoveCgroups()
		}
		init, err := startInit()
		if err != nil {
			return nil, err
		}
		h.init = init
	}
	return h.init, nil
}
