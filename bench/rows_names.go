//go:build e2e

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

const groupNames = "Names and listings"

// listingRows lists the commands that only read or write names.
func (b *bench) listingRows() []row {
	images := func(e engine) (*exec.Cmd, error) { return e.command("images"), nil }
	small := func(e engine) error { return b.once(e, job{context: b.context("small"), tag: "small"}) }
	short := func(name string, kinds []kind, args ...string) row {
		return row{
			group: groupNames, name: name, target: target{Ratio: 0.60}, kinds: kinds, store: mainStore, setup: small,
			command: func(e engine) (*exec.Cmd, error) {
				if e.kind() == kindBuildah && name == "inspect" {
					return e.command("inspect", "--type", "image", "small"), nil
				}
				return e.command(args...), nil
			},
		}
	}
	tagged := func(n int) row {
		return row{
			group: groupNames, name: fmt.Sprintf("images, %d tags", n), target: target{Ratio: 0.60}, kinds: withNames,
			store: fmt.Sprintf("%d tags", n), setup: func(e engine) error { return tagMany(e, n) }, command: images,
		}
	}
	return []row{
		tagged(200), tagged(b.scale(2000, 300)),
		short("history", []kind{kindMica, kindDocker}, "history", "small"),
		short("inspect", withNames, "inspect", "small"),
		short("tag", withNames, "tag", "small", "again"),
	}
}

// scale is a number, or the smaller one with -quick.
func (b *bench) scale(n, quick int) int {
	if b.quick {
		return quick
	}
	return n
}

// tagMany gives an engine n tags in 20 repositories. Buildah takes many in one command.
func tagMany(e engine, n int) error {
	var cmds []*exec.Cmd
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("many/image-%d:v%d", i%20, i))
	}
	if e.kind() == kindBuildah {
		return all(e.command(append([]string{"tag", "localhost/base"}, names...)...))
	}
	for _, name := range names {
		cmds = append(cmds, e.command("tag", "base", name))
	}
	return all(cmds...)
}

const groupRemoval = "Removing"

// removalRows lists what removes images.
func (b *bench) removalRows() []row {
	return []row{{
		group: groupRemoval, name: "remove both images and prune", target: target{Ratio: 0.50}, kinds: builders,
		setup: func(engine) error {
			for _, p := range payloads {
				if err := b.publish(p.name); err != nil {
					return err
				}
			}
			return nil
		},
		prepare: func(e engine) error { return all(b.pullReady(e, "big"), b.pullReady(e, "many")) },
		command: func(e engine) (*exec.Cmd, error) { return b.remove(e), nil },
		note:    "The images of 1 GiB and of 50,000 files, pulled and unpacked, and the build cache. BuildKit runs `buildctl prune --all`.",
	}}
}

func (b *bench) remove(e engine) *exec.Cmd {
	big, many := b.origin.Addr+"/big", b.origin.Addr+"/many"
	switch e.kind() {
	case kindMica:
		return chain(e.command("rmi", big, many), e.command("image", "prune", "-af"), e.command("builder", "prune", "-af"))
	case kindBuildKit:
		return e.command("prune", "--all")
	case kindBuildah:
		return chain(e.command("rm", "--all"), e.command("rmi", big, many), e.command("prune", "-af"))
	}
	return chain(e.command("rmi", big, many), e.command("system", "prune", "-af"))
}

// hugeRows is a layer of 20 GiB, with -huge. Its source is one hole, for it is the memory that is of interest.
func (b *bench) hugeRows() []row {
	if !b.huge {
		return nil
	}
	dir := b.context("huge")
	return []row{{
		group: groupCold, name: "COPY of one file of 20 GiB", kinds: []kind{kindMica}, note: "The source is a sparse file. This row measures peak memory.",
		setup: func(engine) error {
			if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte(copyFile)); err != nil {
				return err
			}
			return writeSparse(filepath.Join(dir, "files", "0"), 20<<30)
		},
		command: b.building(job{context: dir, tag: "huge", noCache: true}),
	}}
}

func lower(k kind) string { return strings.ToLower(string(k)) }
