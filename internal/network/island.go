package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ProxyAddress is where a process in an Island finds its proxy. No connection uses the port by itself: it is above those of the kernel
// (ip_local_port_range).
const ProxyAddress = "127.0.0.1:61080"

// Island is a network namespace that is connected to nothing. It has a loopback device, on which this process listens: its proxy is the
// only way out.
type Island struct {
	ns       *os.File
	listener net.Listener
}

// NewIsland makes an island.
func NewIsland() (*Island, error) {
	i := &Island{}
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends: it cannot return to its namespace
		made <- i.open()
	}()
	if err := <-made; err != nil {
		return nil, errors.Join(fmt.Errorf("make network of a proxy: %w", err), i.Close())
	}
	return i, nil
}

func (i *Island) open() (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if i.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if err := setUp("lo"); err != nil {
		return err
	}
	i.listener, err = net.Listen("tcp4", ProxyAddress)
	return err
}

// File returns the namespace, for setns(2).
func (i *Island) File() *os.File { return i.ns }

// Listener is that of the proxy.
func (i *Island) Listener() net.Listener { return i.listener }

// Close ends the listener. The namespace itself ends with the processes in it.
func (i *Island) Close() error {
	var err error
	if i.listener != nil {
		err = i.listener.Close()
	}
	if i.ns != nil {
		err = errors.Join(err, i.ns.Close())
	}
	return err
}
