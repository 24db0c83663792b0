//go:build e2e

package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// curves lists what is measured of mica's growth.
func (b *bench) curves() []curve {
	return []curve{b.filesCurve(), b.layersCurve(), b.imagesCurve(), b.processesCurve(), b.bytesCurve()}
}

func points(xs ...float64) []float64 { return xs }

// until leaves the points up to a limit, with -quick.
func (b *bench) until(limit float64, xs []float64) []float64 {
	var kept []float64
	for _, x := range xs {
		if !b.quick || x <= limit {
			kept = append(kept, x)
		}
	}
	return kept
}

// inFresh builds in a store that has only the base.
func (b *bench) inFresh(j job) func() (engine, *exec.Cmd, error) {
	return func() (engine, *exec.Cmd, error) {
		e, err := b.newEngine(kindMica)
		if err != nil {
			return nil, nil, err
		}
		return e, e.build(j), nil
	}
}

// in builds in a store that lasts.
func in(e engine, build func() *exec.Cmd) func() (engine, *exec.Cmd, error) {
	return func() (engine, *exec.Cmd, error) { return e, build(), nil }
}

// filesCurve: a COPY of more and more files.
func (b *bench) filesCurve() curve {
	return curve{
		name: "COPY of files", unit: "files of 1 kB", xs: b.until(3000, points(1000, 3000, 10_000, 30_000, 100_000, 300_000)),
		lines: func(x float64) ([]line, error) {
			dir := b.context(fmt.Sprintf("files-%.0f", x))
			if err := writeMany(filepath.Join(dir, "files"), int(x), 1000); err != nil {
				return nil, err
			}
			if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte(copyFile)); err != nil {
				return nil, err
			}
			e, err := b.newEngine(kindMica)
			if err != nil {
				return nil, err
			}
			j := job{context: dir, tag: "files"}
			if err := all(e.build(j)); err != nil {
				return nil, err
			}
			return []line{
				{name: "cold", command: b.inFresh(j), discard: true},
				{name: "all cached", command: in(e, func() *exec.Cmd { return e.build(j) })},
			}, nil
		},
	}
}

// layersCurve: images of more and more layers.
func (b *bench) layersCurve() curve {
	return curve{
		name: "RUN steps", unit: "layers", xs: b.until(10, points(1, 3, 10, 30, 100)),
		lines: func(x float64) ([]line, error) {
			dir := b.context(fmt.Sprintf("layers-%.0f", x))
			if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte(steps(int(x)))); err != nil {
				return nil, err
			}
			e, err := b.shared(kindMica, "layers")
			if err != nil {
				return nil, err
			}
			cached := job{context: dir, tag: "layers", round: b.fresh()}
			if err := all(e.build(cached)); err != nil {
				return nil, err
			}
			return []line{
				{name: "cold", command: in(e, func() *exec.Cmd {
					return e.build(job{context: dir, tag: "cold", round: b.fresh()})
				})},
				{name: "all cached", command: in(e, func() *exec.Cmd { return e.build(cached) })},
				{name: "run", command: in(e, func() *exec.Cmd { return e.command("run", "--network", "none", "layers", "true") })},
			}, nil
		},
	}
}

// imagesCurve: a store of more and more images, each with a record and a config of its own.
func (b *bench) imagesCurve() curve {
	return curve{
		name: "images", unit: "images in the store", xs: b.until(200, points(10, 50, 200, 1000, 5000)),
		lines: func(x float64) ([]line, error) {
			e, err := b.newEngine(kindMica)
			if err != nil {
				return nil, err
			}
			file := b.context("images.tar")
			if err := writeImages(file, int(x)); err != nil {
				return nil, err
			}
			if err := all(e.command("load", "-q", "-i", file)); err != nil {
				return nil, err
			}
			return []line{{name: "images", command: in(e, func() *exec.Cmd { return e.command("images") })}}, nil
		},
	}
}

// writeImages writes an archive as docker save does, of n images that differ in their configs.
func writeImages(name string, n int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	w := tar.NewWriter(f)
	add := func(name string, data []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	layer, diffID := emptyLayer()
	if err := add("layer.tar", layer); err != nil {
		return err
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	for i := range n {
		config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z","config":{"Labels":{"n":"%d"}},`+
			`"rootfs":{"type":"layers","diff_ids":[%q]},"history":[{"created_by":"COPY"}]}`, i, diffID)
		name := fmt.Sprintf("%d.json", i)
		if err := add(name, []byte(config)); err != nil {
			return err
		}
		manifest = append(manifest, entry{name, []string{fmt.Sprintf("many/image-%d:v%d", i%20, i)}, []string{"layer.tar"}})
	}
	data, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := add("manifest.json", data); err != nil {
		return err
	}
	return w.Close()
}

// processesCurve: more and more processes that build in one store at once.
func (b *bench) processesCurve() curve {
	return curve{
		name: "processes at once", unit: "processes, each a cold build of 3 steps, on one store", xs: b.until(4, points(1, 2, 4, 8, 16)),
		lines: func(x float64) ([]line, error) {
			e, err := b.shared(kindMica, "processes")
			if err != nil {
				return nil, err
			}
			dir := b.context("processes")
			text := "FROM base\nARG ROUND\nRUN echo $ROUND >/a\nCOPY requirements.txt /\nRUN cat requirements.txt >/b\n"
			if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte(text)); err != nil {
				return nil, err
			}
			if err := writeSmall(dir); err != nil {
				return nil, err
			}
			return []line{{name: "all of them", command: in(e, func() *exec.Cmd {
				var cmds []*exec.Cmd
				for i := range int(x) {
					cmds = append(cmds, e.build(job{context: dir, tag: fmt.Sprintf("p%d", i), round: b.fresh()}))
				}
				return together(cmds)
			})}}, nil
		},
	}
}

// bytesCurve: a layer of more and more bytes. With -huge, the largest are holes in a sparse file.
func (b *bench) bytesCurve() curve {
	xs := points(16, 64, 256, 1024, 2048)
	if b.huge {
		xs = append(xs, 8192, 20_480)
	}
	return curve{
		name: "COPY of one file", unit: "MiB", xs: b.until(64, xs),
		lines: func(x float64) ([]line, error) {
			dir := b.context(fmt.Sprintf("bytes-%.0f", x))
			if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte(copyFile)); err != nil {
				return nil, err
			}
			build := []line{{name: "cold", command: b.inFresh(job{context: dir, tag: "bytes"}), discard: true}}
			if x > 2048 {
				return build, writeSparse(filepath.Join(dir, "files", "0"), int64(x)<<20)
			}
			return build, writeBig(filepath.Join(dir, "files"), 1, int64(x)<<20)
		},
	}
}
