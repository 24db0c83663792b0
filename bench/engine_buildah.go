//go:build e2e

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// buildah runs without a daemon, as mica does.
type buildah struct {
	path, root string
}

// buildahConf tells Buildah what it would otherwise assume of its host: limits that this process may raise to; the runtime
// that Docker and BuildKit have; and a program for networks, which is never run, for steps have the host's.
const buildahConf = `[containers]
default_ulimits = ["nofile=%d:%d", "nproc=%d:%d"]
[engine]
runtime = "runc"
helper_binaries_dir = [%q]
`

const rlimitNProc = 6 // RLIMIT_NPROC, which package syscall lacks

func (b *bench) newBuildah(dir string) (engine, error) {
	var files, processes syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	if err := syscall.Getrlimit(rlimitNProc, &processes); err != nil {
		return nil, err
	}
	soft := min(1024, files.Max)
	most := min(processes.Max, 1<<20)
	helpers := filepath.Join(dir, "helpers")
	text := fmt.Sprintf(buildahConf, soft, files.Max, most, most, helpers)
	if err := writeFile(filepath.Join(dir, "containers.conf"), []byte(text)); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(helpers, "netavark"), nil); err != nil {
		return nil, err
	}
	if err := os.Chmod(filepath.Join(helpers, "netavark"), 0o755); err != nil {
		return nil, err
	}
	e := &buildah{b.buildahPath, dir}
	id, err := e.command("pull", "-q", "docker-archive:"+b.baseArchive).Output()
	if err != nil {
		return nil, err
	}
	return e, all(e.command("tag", strings.TrimSpace(string(id)), "localhost/base"))
}

func (*buildah) kind() kind     { return kindBuildah }
func (e *buildah) dir() string  { return e.root }
func (*buildah) daemon() int    { return 0 }
func (e *buildah) close() error { return unmountBelow(e.root) }

func (e *buildah) command(args ...string) *exec.Cmd {
	global := []string{"--root", e.root + "/root", "--runroot", e.root + "/run", "--storage-driver", "overlay"}
	cmd := exec.Command(e.path, append(global, args...)...)
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+e.root+"/containers.conf")
	return cmd
}

// build has a layer for each instruction, as the others have, and runs as many stages at once as there are.
func (e *buildah) build(j job) *exec.Cmd {
	args := []string{
		"build", "-q", "--layers", "--isolation", "oci", "--network", "host", "--pull=never", "--http-proxy=false", "--jobs", "8",
	}
	args = append(args, j.flags()...)
	build := e.command(append(args, "-t", j.tag, j.context)...)
	if j.push == "" {
		return build
	}
	return chain(build, e.push(j.tag, j.push))
}

func (e *buildah) push(name, to string) *exec.Cmd {
	return e.command("push", "-q", "--tls-verify=false", "localhost/"+name, "docker://"+to)
}
