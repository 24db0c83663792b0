package sandbox

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/containerinit"
)

// argv returns the command line for the runtime: the command, or an init that starts it.
func (b *bundle) argv() []string {
	if !b.p.Init {
		return b.written()
	}
	return append([]string{containerinit.Path, "--"}, b.p.Args...)
}

// withInit returns p with the mount that an init needs.
func (p *Process) withInit() *Process {
	if !p.Init {
		return p
	}
	with := *p
	with.Mounts = append(slices.Clone(p.Mounts), Mount{Type: mountInit, Target: containerinit.Path, ReadOnly: true})
	return &with
}

// initProgram mounts this program in the bundle, or writes a copy if other users may not execute the program or its file was
// replaced after the start.
func (b *bundle) initProgram(i int) (string, error) {
	const self = "/proc/1/exe" // process 1 of the pid namespace is this program as well
	var running, named unix.Stat_t
	if err := unix.Stat(self, &running); err != nil {
		return "", err
	}
	name, err := os.Readlink(self)
	if err != nil {
		return "", err
	}
	const executable = 0o005
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
		err = unix.Fstat(fd, &named)
	}
	if err != nil || named.Dev != running.Dev || named.Ino != running.Ino || named.Mode&executable != executable {
		return b.copyOfProgram(i, self)
	}
	return b.show(fd, b.mountDir(i), unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
}

func (b *bundle) copyOfProgram(i int, from string) (string, error) {
	data, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	at := b.mountDir(i)
	if err := os.WriteFile(at, data, 0o755); err != nil {
		return "", err
	}
	return at, os.Chmod(at, 0o755)
}
