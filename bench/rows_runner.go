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

const (
	groupRunner = "A fresh runner (registry on loopback)"
	noteRunner  = "The store is empty, and a cache in the registry has all steps. One source file has changed: its `COPY` and a `RUN` of `cat` run, and the image is pushed to the repository that has the one before. BuildKit's cache is `mode=max`."
	runnerFile  = "FROM %s\nWORKDIR /app\nCOPY requirements.txt .\nRUN cat requirements.txt >installed\nCOPY app.py .\nRUN cat app.py >compiled\nCMD [\"cat\", \"app.py\"]\n"
)

// A runnerBase is a base image of layers with many small files and two large ones, as a distribution's image and a language's are.
type runnerBase struct {
	name, title string
	layers      int
	files       int   // small ones of each layer
	large       int64 // bytes of a large one
	target      float64
}

const (
	runnerSmall = 12_000 // bytes of a small file
	runnerLarge = 2      // large files of a layer
	runnerQuick = 20     // with -quick, a base is so many times smaller
)

// runnerRows lists builds on a machine that has nothing, with everything in a registry's cache.
func (b *bench) runnerRows() []row {
	var rows []row
	for _, base := range []runnerBase{
		{"runner-120m", "120 MB", 4, 1400, 6 << 20, 0.35},
		{"runner-2g", "2 GB", 6, 12_000, 90 << 20, 0.25},
	} {
		rows = append(rows, b.runnerRow(base, "max"), b.runnerRow(base, "steps"))
	}
	return rows
}

func (b *bench) runnerRow(base runnerBase, mode string) row {
	dir := b.context(base.name + "-" + mode)
	change := func(engine) error {
		return writeFile(filepath.Join(dir, "app.py"), fmt.Appendf(nil, "print(%q)\n", b.fresh()))
	}
	at := func(e engine) job {
		m := mode
		if e.kind() != kindMica {
			m = "max"
		}
		name := fmt.Sprintf("%s/%s-%s-%s", b.origin.Addr, base.name, mode, lower(e.kind()))
		return job{context: dir, push: name, cache: fmt.Sprintf("type=registry,ref=%s-cache,mode=%s", name, m)}
	}
	return row{
		group: groupRunner, name: fmt.Sprintf("one file changed, base of %s, mode=%s", base.title, mode), target: target{Ratio: base.target},
		kinds: []kind{kindMica, kindBuildKit}, note: noteRunner,
		setup: func(e engine) error {
			if err := b.publishRunner(base); err != nil {
				return err
			}
			return errors.Join(b.writeRunner(base, dir), change(e), b.fillCache(at(e), e.kind()))
		},
		prepare: change,
		command: func(e engine) (*exec.Cmd, error) { return e.build(at(e)), nil },
	}
}

// writeRunner writes the context of a build on a base image.
func (b *bench) writeRunner(base runnerBase, dir string) error {
	return errors.Join(
		writeFile(filepath.Join(dir, "Dockerfile"), fmt.Appendf(nil, runnerFile, b.origins[base.name])),
		writeFile(filepath.Join(dir, "requirements.txt"), []byte("flask==3.0\n")),
	)
}

// fillCache builds and writes the cache, in an engine that is not used again.
func (b *bench) fillCache(j job, k kind) error {
	e, err := b.newEngine(k)
	if err != nil {
		return err
	}
	j.fill = true
	return errors.Join(all(e.build(j)), b.discard(e))
}

// publishRunner puts a base image into the origin, once.
func (b *bench) publishRunner(base runnerBase) error {
	if b.origins[base.name] != "" {
		return nil
	}
	cut := b.scale(1, runnerQuick)
	dir := b.context(base.name)
	text := &strings.Builder{}
	text.WriteString("FROM base\n")
	for i := range base.layers {
		layer := filepath.Join(dir, fmt.Sprint(i))
		// Sizes and counts are the seeds: no two layers are alike.
		err := errors.Join(
			writeMany(filepath.Join(layer, "small"), base.files/cut+i, runnerSmall),
			writeBig(filepath.Join(layer, "large"), runnerLarge, base.large/int64(cut)&^0xfff+int64(i)<<12),
		)
		if err != nil {
			return err
		}
		fmt.Fprintf(text, "COPY %d /usr/lib/%d\n", i, i)
	}
	if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte(text.String())); err != nil {
		return err
	}
	e, err := b.newEngine(kindMica)
	if err != nil {
		return err
	}
	err = all(e.build(job{context: dir, push: b.origin.Addr + "/" + base.name}))
	if err = errors.Join(err, b.discard(e), os.RemoveAll(dir)); err != nil {
		return err
	}
	return b.resolve(base.name)
}
