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

// ownNetwork is the network that processes share if they do not use the host's. It is started once, and ends with the init
// process.
type ownNetwork struct {
	done chan struct{} // closed when ns or err is set
	ns   *network.Namespace
	err  error
}

// StartNetwork starts the network of NetworkOwn in the background, while the caller prepares a process.
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
		runtime.LockOSThread() // the thread is not reused: its children are in another pid namespace
		defer close(own.done)
		own.ns, own.err = h.makeNetwork(init)
	}()
	return own
}

// makeNetwork starts the network's processes in the init process's pid namespace, so that they end with it. Their parent uses
// this process's /proc and mounts.
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

// OwnNetwork returns the network of NetworkOwn, which it starts if necessary, or the reason why there is none.
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

// attachNetwork gives the process its network and writes the files that depend on it. It is the last step of the preparation, because
// making a network takes longest.
func (h *Host) attachNetwork(ctx context.Context, b *bundle) (err error) {
	switch b.p.Network {
	case NetworkOwn:
		err = h.attachOwn(ctx, b)
	case NetworkProxy:
		err = b.attachIsland()
	}
	if err != nil {
		return err
	}
	return b.writeNetworkFiles()
}

// attachOwn gives the process a network of its own, if one is possible.
func (h *Host) attachOwn(ctx context.Context, b *bundle) error {
	own, err := h.OwnNetwork(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if b.p.NetworkMade != nil {
		if err := b.p.NetworkMade(own, err); err != nil {
			return err
		}
	}
	if err != nil {
		return nil //nolint:nilerr // it uses the host's
	}
	b.own = own
	return b.joinNetwork(own.File())
}

// attachIsland gives the process a network that ends at its proxy, which serves from now on.
func (b *bundle) attachIsland() error {
	island, err := network.NewIsland()
	if err != nil {
		return err
	}
	served := make(chan struct{})
	b.endProxy = func() {
		_ = island.Close()
		<-served
	}
	go func() {
		defer close(served)
		b.p.Proxy(island.Listener())
	}()
	return b.joinNetwork(island.File())
}

// joinNetwork puts the namespace of the process's network where the runtime finds it.
func (b *bundle) joinNetwork(ns *os.File) error {
	path := filepath.Join(b.dir, "network")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	if err := bindAt(int(ns.Fd()), path, 0, 0); err != nil {
		return fmt.Errorf("prepare sandbox: mount network: %w", err)
	}
	b.mounted = slices.Insert(b.mounted, 0, path)
	b.network = path
	return nil
}

// onHostNetwork reports whether the process uses the host's network.
func (b *bundle) onHostNetwork() bool {
	return b.p.Network == NetworkHost || b.p.Network == NetworkOwn && b.own == nil
}
