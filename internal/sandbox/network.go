package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/network"
)

// ownNetwork is the network of the processes that do not use the host's, started once. It ends with the init process.
type ownNetwork struct {
	done chan struct{} // closed when the others are set
	ns   *network.Namespace
	err  error
}

// StartNetwork begins to make the network of NetworkOwn, and does not wait for it: a process that is about to run needs
// other things that take as long.
func (h *Host) StartNetwork() { h.startedNetwork() }

func (h *Host) startedNetwork() *ownNetwork {
	init, err := h.started()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.own != nil {
		return h.own
	}
	own := &ownNetwork{done: make(chan struct{}), err: err}
	h.own = own
	if err != nil {
		close(own.done)
		return own
	}
	go func() {
		runtime.LockOSThread() // the thread ends here, for it has another pid namespace
		defer close(own.done)
		own.ns, own.err = h.makeNetwork(init)
	}()
	return own
}

// makeNetwork starts what serves the network where it ends with the init process. What starts it sees this process's /proc
// and mounts.
func (h *Host) makeNetwork(init *initProcess) (*network.Namespace, error) {
	pasta, err := network.Find(h.ids.Nested())
	if err != nil {
		return nil, err
	}
	if err := unix.Setns(int(init.pid.Fd()), unix.CLONE_NEWPID); err != nil {
		return nil, fmt.Errorf("enter sandbox: pid namespace: %w", err)
	}
	return network.Start(network.Options{Pasta: pasta, Nested: h.ids.Nested(), MaxGroup: h.ids.LastGroup()})
}

// OwnNetwork waits for the network of NetworkOwn, which it starts if nobody has. The error is the reason why there is
// none.
func (h *Host) OwnNetwork(ctx context.Context) (*network.Namespace, error) {
	own := h.startedNetwork()
	select {
	case <-own.done:
		return own.ns, own.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// close is called when the init process has ended.
func (n *ownNetwork) close() error {
	if n == nil {
		return nil
	}
	<-n.done
	if n.ns == nil {
		return nil
	}
	return n.ns.Close()
}

// attachNetwork gives the process its own network, where it is to have one and can, and its files their content. It comes
// last of what is prepared, for nothing takes as long as to make a network.
func (h *Host) attachNetwork(ctx context.Context, b *bundle) error {
	if b.p.Network != NetworkOwn {
		return b.writeNetworkFiles()
	}
	own, err := h.OwnNetwork(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if b.p.NetworkMade != nil {
		if err := b.p.NetworkMade(own, err); err != nil {
			return err
		}
	}
	if err == nil {
		if err := b.joinNetwork(own); err != nil {
			return err
		}
	}
	return b.writeNetworkFiles()
}

// joinNetwork shows the runtime where the process's network is.
func (b *bundle) joinNetwork(own *network.Namespace) error {
	b.own = own
	path := b.networkPath()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	if err := bindAt(int(own.File().Fd()), path, 0, 0); err != nil {
		return fmt.Errorf("prepare sandbox: mount network: %w", err)
	}
	b.mounted = slices.Insert(b.mounted, 0, path)
	return nil
}

// onHostNetwork reports whether the process uses the host's network.
func (b *bundle) onHostNetwork() bool {
	return b.p.Network == NetworkHost || b.p.Network == NetworkOwn && b.own == nil
}

// networkPath is where the runtime finds the process's network; "" if it is to make an empty one.
func (b *bundle) networkPath() string {
	if b.own == nil {
		return ""
	}
	return filepath.Join(b.dir, "network")
}
