//go:build e2e

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A kind is one of those that are compared.
type kind string

// All of them, in the order of the columns.
const (
	kindMica     kind = "mica"
	kindServe    kind = "mica serve"
	kindBuildctl kind = "buildctl at mica"
	kindBuildKit kind = "BuildKit"
	kindDocker   kind = "Docker"
	kindDocker29 kind = "Docker 29"
	kindBuildah  kind = "Buildah"
	kindCrane    kind = "crane"
)

var kinds = []kind{kindMica, kindServe, kindBuildctl, kindBuildKit, kindDocker, kindDocker29, kindBuildah, kindCrane}

// An engine is mica or a peer with a store of its own, in which the image `base` is ready to run.
type engine interface {
	kind() kind
	// dir is where all of its files are.
	dir() string
	// daemon is the process that works for its commands, 0 if they work themselves.
	daemon() int
	// build is a build to an image with layers of its own: never a result that stays in a cache alone.
	build(j job) *exec.Cmd
	// command is its command line with these arguments.
	command(args ...string) *exec.Cmd
	close() error
}

// A job is a build.
type job struct {
	context string   // the directory
	file    string   // the Dockerfile's name, if it is not Dockerfile
	tag     string   // what the image is called
	round   string   // the value of the build argument ROUND
	images  []string // what the Dockerfile is FROM, where not `base` alone
	noCache bool
	runc    bool   // steps run with runc, also those of an engine that takes another runtime
	push    string // the image is pushed under this name
	cache   string // a remote cache, as --cache-from and --cache-to take it
	fill    bool   // the remote cache is written, not read
}

// flags are those that mica, Docker and Buildah have in common.
func (j job) flags() []string {
	var flags []string
	if j.noCache {
		flags = append(flags, "--no-cache")
	}
	if j.file != "" {
		flags = append(flags, "-f", j.context+"/"+j.file)
	}
	if j.round != "" {
		flags = append(flags, "--build-arg", "ROUND="+j.round)
	}
	return flags
}

// newEngine makes an engine with an empty store on a volume of its own, and gives it the image `base`.
func (b *bench) newEngine(k kind) (engine, error) {
	mounted, err := os.MkdirTemp(b.dir, strings.ReplaceAll(strings.ToLower(string(k)), " ", "-")+"-")
	if err != nil {
		return nil, err
	}
	v, err := newVolume(mounted)
	if err != nil {
		return nil, fmt.Errorf("make a volume for %s: %w", k, err)
	}
	dir := filepath.Join(mounted, "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, errors.Join(err, v.remove())
	}
	var e engine
	switch k {
	case kindMica:
		e, err = b.newMica(dir)
	case kindServe:
		e, err = b.newServe(dir)
	case kindBuildctl:
		e, err = b.newBuildctl(dir)
	case kindDocker29:
		e, err = b.newDocker29(dir)
	case kindBuildKit:
		e, err = b.newBuildKit(dir)
	case kindDocker:
		e, err = b.newDocker(dir)
	case kindBuildah:
		e, err = b.newBuildah(dir)
	case kindCrane:
		e = &crane{path: filepath.Join(b.peers, "crane"), root: dir}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %s: %w", k, err), v.remove())
	}
	b.volumes[e] = v
	return e, nil
}

// discard ends an engine and removes all that it has.
func (b *bench) discard(e engine) error {
	v := b.volumes[e]
	delete(b.volumes, e)
	return errors.Join(e.close(), v.remove())
}

// shared is an engine that lives as long as the benchmark: the same for the same name.
func (b *bench) shared(k kind, name string) (engine, error) {
	key := name + "/" + string(k)
	if e := b.engines[key]; e != nil {
		return e, nil
	}
	e, err := b.newEngine(k)
	if err == nil {
		b.engines[key] = e
	}
	return e, err
}

// all runs commands to their ends, which must succeed.
func all(cmds ...*exec.Cmd) error {
	for _, c := range cmds {
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", c, err, out)
		}
	}
	return nil
}

// chain is one command that runs several, each if those before succeeded.
func chain(cmds ...*exec.Cmd) *exec.Cmd {
	parts := make([]string, len(cmds))
	for i, c := range cmds {
		parts[i] = commandLine(c)
	}
	cmd := exec.Command("/bin/sh", "-c", strings.Join(parts, " && "))
	cmd.Env = cmds[0].Env
	return cmd
}

// together is one command that runs several at once, and fails if one does.
func together(cmds []*exec.Cmd) *exec.Cmd {
	var script strings.Builder
	for _, c := range cmds {
		fmt.Fprintf(&script, "%s & pids=\"$pids $!\"\n", commandLine(c))
	}
	script.WriteString("for p in $pids; do wait $p || exit 1; done\n")
	cmd := exec.Command("/bin/sh", "-c", script.String())
	cmd.Env = cmds[0].Env
	return cmd
}

// commandLine is a command as a shell takes it.
func commandLine(c *exec.Cmd) string {
	words := []string{quote(c.Path)}
	for _, a := range c.Args[1:] {
		words = append(words, quote(a))
	}
	return strings.Join(words, " ")
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
