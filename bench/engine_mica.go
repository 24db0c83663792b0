//go:build e2e

package main

import (
	"os"
	"os/exec"
	"strings"
)

// mica is the engine that this is all about.
type mica struct{ path, root string }

func (b *bench) newMica(dir string) (engine, error) {
	m := &mica{b.micaPath, dir}
	// As with the peers, the base is unpacked when the measuring begins.
	return m, all(
		m.command("import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", b.baseTar, "base"),
		m.command("run", "-q", "--network", "none", "base", "true"),
	)
}

func (*mica) kind() kind    { return kindMica }
func (m *mica) dir() string { return m.root }
func (*mica) daemon() int   { return 0 }
func (*mica) close() error  { return nil }

func (m *mica) command(args ...string) *exec.Cmd {
	cmd := exec.Command(m.path, args...)
	cmd.Env = append(os.Environ(), "MICA_ROOT="+m.root)
	return cmd
}

func (m *mica) build(j job) *exec.Cmd {
	args := append([]string{"build", "-q", "--network", "host"}, j.flags()...)
	if j.runc {
		args = append(args, "--runtime", "runc")
	}
	if j.cache != "" && j.fill {
		args = append(args, "--cache-to", j.cache)
	} else if j.cache != "" {
		args = append(args, "--cache-from", strings.TrimSuffix(j.cache, ",mode=max")) // only a cache that is written has that mode
	}
	tag := j.tag
	if j.push != "" {
		tag = j.push
		args = append(args, "--push")
	}
	return m.command(append(args, "-t", tag, j.context)...)
}
