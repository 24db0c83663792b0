//go:build e2e

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/micabuild/mica/test/rig"
)

// client is an engine that Docker's command of release 29 works with, which builds by BuildKit's API.
type client struct {
	*rig.Docker
	of   kind
	root string
	pid  int
	stop func() error
}

func (c *client) kind() kind   { return c.of }
func (c *client) dir() string  { return c.root }
func (c *client) daemon() int  { return c.pid }
func (c *client) close() error { return c.stop() }
func (c *client) command(args ...string) *exec.Cmd {
	cmd := c.Command(args...)
	cmd.Env = append(cmd.Env, "DOCKER_BUILDKIT=1")
	return cmd
}

// build makes no provenance: no other engine's build does.
func (c *client) build(j job) *exec.Cmd {
	args := append([]string{"build", "-q", "--provenance=false", "--network", "host"}, j.flags()...)
	if j.push != "" {
		return c.command(append(args, "--push", "-t", j.push, j.context)...)
	}
	return c.command(append(args, "-t", j.tag, j.context)...)
}

// newServe is mica's store behind mica serve, for Docker's command.
func (b *bench) newServe(dir string) (engine, error) {
	addr, pid, stop, err := b.startServe(dir)
	if err != nil {
		return nil, err
	}
	docker, err := rig.Docker29At(addr, filepath.Dir(dir))
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &client{docker, kindServe, dir, pid, stop}, nil
}

// newBuildctl is mica's store behind mica serve, for buildctl.
func (b *bench) newBuildctl(dir string) (engine, error) {
	addr, pid, stop, err := b.startServe(dir)
	if err != nil {
		return nil, err
	}
	return &buildkit{BuildKit: rig.BuildKitAt(addr), of: kindBuildctl, root: dir, pid: pid, stop: stop}, nil
}

func (b *bench) startServe(dir string) (addr string, pid int, stop func() error, err error) {
	store, err := b.newMica(dir)
	if err != nil {
		return "", 0, nil, err
	}
	addr = "unix://" + filepath.Join(dir, "mica.sock")
	server := store.command("serve", "--addr", addr, "--allow-insecure-entitlement", "network.host")
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		return "", 0, nil, err
	}
	if err := server.Start(); err != nil {
		return "", 0, nil, err
	}
	stop = func() error { return errors.Join(server.Process.Signal(syscall.SIGTERM), server.Wait()) }
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != addr {
		return "", 0, nil, errors.Join(fmt.Errorf("mica serve says %q", line), err, stop())
	}
	return addr, server.Process.Pid, stop, nil
}

// newDocker29 is a Docker Engine of today, with containerd's image store.
func (b *bench) newDocker29(dir string) (engine, error) {
	docker, err := rig.StartDocker29(dir, rig.ImageStore)
	if err != nil {
		return nil, err
	}
	e := &client{docker, kindDocker29, dir, docker.Pid(), docker.Stop}
	if err := all(e.command("load", "-q", "-i", b.baseArchive)); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}
