//go:build e2e

package main

import (
	"fmt"
	"os/exec"
)

const (
	groupServe = "Through the socket"
	noteServe  = "`mica serve` and Docker 29 by `docker build` of Docker 29, which starts buildx; mica's server and BuildKit by buildctl; mica's own command line. The ratio is that of buildctl at mica."
)

var (
	served  = []kind{kindMica, kindServe, kindBuildctl, kindDocker29, kindBuildKit}
	clients = []kind{kindServe, kindDocker29}
)

// serveRows lists what clients of the two APIs wait for, and what the server takes of memory.
func (b *bench) serveRows() []row {
	small := job{context: b.context("small"), tag: "small"}
	many := job{context: b.context("many"), file: "Dockerfile.run", tag: "many-run"}
	once := func(j job) func(engine) error { return func(e engine) error { return b.once(e, j) } }
	cold := func(j job) job {
		j.noCache, j.tag = true, "cold"
		return j
	}
	n := b.scale(2000, 300)
	return []row{
		{
			group: groupServe, name: "socket: rebuild, all cached, 2 files", target: target{Ratio: 0.30}, of: kindBuildctl, kinds: served, store: mainStore,
			setup: once(small), command: b.building(small), note: noteServe,
		},
		{
			group: groupServe, name: "socket: rebuild, all cached, 50,000 files", target: target{Ratio: 0.30}, of: kindBuildctl, kinds: served, store: mainStore,
			setup: once(many), command: b.building(many),
			note: "The client reads the metadata of all files, and sends it: that takes it 0.7 s of processor time at any server.",
		},
		{
			group: groupServe, name: "socket: cold, 2 files", target: target{Ratio: 0.30}, of: kindBuildctl, kinds: served, store: mainStore,
			setup: once(small), command: b.building(cold(small)),
		},
		{
			group: groupServe, name: "socket: cold, COPY of 50,000 files, then a RUN", target: target{Ratio: 0.30}, of: kindBuildctl, kinds: served,
			command: b.building(cold(many)),
			note:    "The client reads and sends all files, by four at once, which takes it 2 s of processor time at any server; mica keeps them in a few files.",
		},
		{
			group: groupServe, name: fmt.Sprintf("socket: docker images, %d tags", n), of: kindServe, kinds: clients, store: fmt.Sprintf("%d tags", n),
			setup: func(e engine) error { return tagMany(e, n) }, command: func(e engine) (*exec.Cmd, error) { return e.command("images"), nil },
		},
		{
			group: groupServe, name: "socket: 16 builds at once", of: kindBuildctl, kinds: served, store: mainStore, command: b.buildMany(16),
			note: "Each build runs 20 steps of its own.",
		},
		{
			group: groupServe, name: "socket: docker version", of: kindServe, memory: 30e6, rest: true, kinds: clients, store: "idle",
			command: func(e engine) (*exec.Cmd, error) { return e.command("version"), nil }, note: "The memory is that of a server that has nothing to do, 5 seconds later.",
		},
	}
}

// buildMany builds with n values of ROUND at once, none of which has been built before.
func (b *bench) buildMany(n int) func(engine) (*exec.Cmd, error) {
	return func(e engine) (*exec.Cmd, error) {
		var cmds []*exec.Cmd
		for i := range n {
			cmds = append(cmds, e.build(job{context: b.context("steps"), tag: fmt.Sprintf("at-once-%d", i), round: b.fresh()}))
		}
		return together(cmds), nil
	}
}
