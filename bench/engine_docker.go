//go:build e2e

package main

import (
	"os/exec"

	"github.com/micabuild/mica/test/rig"
)

// docker is a Docker Engine, with its classic builder.
type docker struct {
	*rig.Docker
	root string
}

func (b *bench) newDocker(dir string) (engine, error) {
	server, err := rig.StartDocker(dir)
	if err != nil {
		return nil, err
	}
	e := &docker{server, dir}
	if err := all(e.command("load", "-q", "-i", b.baseArchive)); err != nil {
		_ = e.close()
		return nil, err
	}
	return e, nil
}

func (*docker) kind() kind                         { return kindDocker }
func (e *docker) dir() string                      { return e.root }
func (e *docker) daemon() int                      { return e.Pid() }
func (e *docker) command(args ...string) *exec.Cmd { return e.Command(args...) }
func (e *docker) close() error                     { return e.Stop() }

func (e *docker) build(j job) *exec.Cmd {
	args := append([]string{"build", "-q", "--network", "host"}, j.flags()...)
	if j.push == "" {
		return e.command(append(args, "-t", j.tag, j.context)...)
	}
	return chain(e.command(append(args, "-t", j.push, j.context)...), e.command("push", "-q", j.push))
}
