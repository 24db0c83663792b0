//go:build e2e

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
)

const (
	groupRebuild = "Rebuilding"
	groupCold    = "Building what is not cached"
	noteImages   = "In all builds, every engine makes an image with an uncompressed layer for each instruction. BuildKit's output is `type=image,compression=uncompressed`, which is faster than its archives; Buildah builds with `--layers`."
	noteRuntime  = "In every row with a RUN, mica uses crun, and Docker, BuildKit and Buildah use runc. Buildah's own choice is crun, which does not start on hosts with cgroups of both versions. In the next row, all engines use runc."
	notePacked   = "mica stores the layer as a tar, and unpacks it when a step or a container needs its files, as in the next row. Docker and Buildah store it unpacked, BuildKit in both forms."
)

// cachedRows lists builds in a store that has all of it, or all but one file.
func (b *bench) cachedRows() []row {
	small := job{context: b.context("small"), tag: "small"}
	many := job{context: b.context("many"), file: "Dockerfile.run", tag: "many-run"}
	once := func(j job) func(engine) error { return func(e engine) error { return b.once(e, j) } }
	return []row{
		{
			group: groupRebuild, name: "rebuild, all cached, 2 files", target: target{Ratio: 0.25}, kinds: builders, store: mainStore,
			setup: once(small), command: b.building(small), note: noteImages,
		},
		{
			group: groupRebuild, name: "rebuild, all cached, 50,000 files", target: target{Ratio: 0.12}, kinds: builders, store: mainStore,
			setup: once(many), command: b.building(many),
		},
		{
			group: groupRebuild, name: "one of 50,000 files changed, COPY and RUN again", target: target{Ratio: 0.25}, kinds: builders, store: mainStore,
			setup: once(many), prepare: func(engine) error { return b.changeOne() }, command: b.building(many),
		},
	}
}

// once builds in a main engine what has not been built there.
func (b *bench) once(e engine, j job) error {
	key := "image " + j.tag + "/" + string(e.kind())
	if b.ready[key] {
		return nil
	}
	b.ready[key] = true
	return all(e.build(j))
}

// changeOne gives one of the many files another content of the same size.
func (b *bench) changeOne() error {
	text := fmt.Appendf(nil, "%s %0*d", b.fresh(), manySize, rand.Uint64())
	return os.WriteFile(manyName(b.context("many/files"), 1234), text[:manySize], 0o644)
}

// coldRows lists builds of which nothing is cached. Where files of the host are copied, each run has a store of its own, for
// the engines remember what they read.
func (b *bench) coldRows() []row {
	cold := func(name, context, file string, ratio float64, content int64, note string) row {
		return row{
			group: groupCold, name: name, note: note, target: target{Ratio: ratio}, kinds: builders,
			content: content + b.baseBytes, command: b.building(job{context: b.context(context), file: file, tag: "cold", noCache: true}),
		}
	}
	return []row{
		cold("cold: COPY of 50,000 files (198 MB), then a RUN", "many", "Dockerfile.run", 0.30, b.manyBytes, ""),
		cold("cold: COPY of 1 GiB in 8 files", "big", "", 0.20, b.bigBytes, notePacked),
		cold("cold: COPY of 1 GiB in 8 files, then a RUN", "big", "Dockerfile.run", 0.25, b.bigBytes, ""),
		{
			group: groupCold, name: "cold: 20 RUN steps of echo", target: target{Ratio: 0.40}, kinds: builders, store: mainStore,
			command: b.anew(job{context: b.context("steps"), tag: "steps"}), note: noteRuntime,
		},
		{
			group: groupCold, name: "cold: 20 RUN steps of echo, all with runc", kinds: builders, store: mainStore,
			command: b.anew(job{context: b.context("steps"), tag: "steps", runc: true}),
		},
		{
			group: groupCold, name: "8 stages of one second each, joined by COPY --from", target: target{Ratio: 0.80, Seconds: 1.3},
			kinds: builders, store: mainStore, command: b.anew(job{context: b.context("stages"), tag: "stages"}),
			note: "Docker's classic builder runs one stage at a time.",
		},
		{
			group: groupCold, name: "COPY --from of 50,000 files out of a stage", target: target{Ratio: 0.30}, kinds: builders, store: mainStore,
			setup:   b.stage,
			command: b.anew(job{context: b.context("from"), tag: "from", images: []string{"many"}}),
		},
	}
}

// anew builds with a ROUND that is new each time.
func (b *bench) anew(j job) func(engine) (*exec.Cmd, error) {
	return func(e engine) (*exec.Cmd, error) {
		j.round = b.fresh()
		return e.build(j), nil
	}
}

// stage has the stage that is copied from ready in an engine.
func (b *bench) stage(e engine) error {
	if err := b.publish("many"); err != nil {
		return err
	}
	if _, err := b.having(e.kind(), "many"); err != nil {
		return err
	}
	return all(e.build(job{context: b.context("from"), tag: "from", images: []string{"many"}, round: b.fresh()}))
}
