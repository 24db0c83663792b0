//go:build e2e

package main

import (
	"fmt"
	"os"
	"os/exec"
)

const (
	groupRegistry = "Registries (on loopback)"
	noteReady     = "mica pulls and runs `true`; Docker pulls, which unpacks; Buildah pulls, makes a container and runs `true` in it; BuildKit builds FROM the image with one RUN."
	noteCrane     = "crane stores the blobs and verifies their digests; mica also decompresses them, hashes the tars, and makes tables of contents."
	notePush      = "BuildKit can push only in a build."
)

// payload is an image that is carried about.
type payload struct{ name, title string }

var payloads = []payload{{"big", "1 GiB"}, {"many", "50,000 files"}}

// transferRows lists what is measured of registries.
func (b *bench) transferRows() []row {
	var rows []row
	for _, p := range payloads {
		rows = append(rows, b.pushRows(p)...)
	}
	for _, p := range payloads {
		rows = append(rows, b.pullRows(p)...)
	}
	return rows
}

func (b *bench) pushRows(p payload) []row {
	have := func(e engine) error {
		_, err := b.having(e.kind(), p.name)
		return err
	}
	again := func(e engine) string { return fmt.Sprintf("%s/again-%s-%s", b.origin.Addr, lower(e.kind()), p.name) }
	return []row{
		{
			group: groupRegistry, name: "build and push " + p.title, target: target{Ratio: 0.50}, kinds: builders,
			command: func(e engine) (*exec.Cmd, error) {
				to, err := b.emptySink()
				return e.build(job{context: b.context(p.name), tag: "cold", push: to + "/" + p.name, noCache: true}), err
			},
			note: "Every engine compresses with gzip and pushes to an empty registry.",
		},
		{
			group: groupRegistry, name: "push " + p.title, target: target{Ratio: 0.50}, kinds: withNames, store: mainStore, setup: have, note: notePush,
			command: func(e engine) (*exec.Cmd, error) {
				to, err := b.emptySink()
				if err != nil {
					return nil, err
				}
				return push(e, p.name, to+"/"+p.name)
			},
		},
		{
			group: groupRegistry, name: "push " + p.title + " once more", target: target{Seconds: 0.1}, kinds: withNames, store: mainStore,
			setup: func(e engine) error {
				if err := have(e); err != nil {
					return err
				}
				cmd, err := push(e, p.name, again(e))
				if err != nil {
					return err
				}
				return all(cmd)
			},
			command: func(e engine) (*exec.Cmd, error) { return push(e, p.name, again(e)) },
		},
	}
}

// push gives an image the name that it is pushed under, and is the push.
func push(e engine, name, to string) (*exec.Cmd, error) {
	if e, ok := e.(*buildah); ok {
		return e.push(name, to), nil
	}
	return e.command("push", "-q", to), all(e.command("tag", name, to))
}

func (b *bench) pullRows(p payload) []row {
	published := func(engine) error { return b.publish(p.name) }
	ref := func() string { return b.origin.Addr + "/" + p.name }
	return []row{
		{
			group: groupRegistry, name: "pull " + p.title + " (download alone)", target: target{Ratio: 1.30}, kinds: []kind{kindMica, kindCrane}, note: noteCrane,
			setup: published,
			command: func(e engine) (*exec.Cmd, error) {
				if e.kind() == kindCrane {
					return e.command("pull", "--format", "oci", ref(), e.dir()), nil
				}
				return e.command("pull", "-q", ref()), nil
			},
		},
		{
			group: groupRegistry, name: "pull " + p.title + ", ready to run", target: target{Ratio: 0.50}, kinds: builders, note: noteReady,
			setup:   published,
			command: func(e engine) (*exec.Cmd, error) { return b.pullReady(e, p.name), nil },
		},
	}
}

// pullReady pulls an image of the origin until a process can run in it.
func (b *bench) pullReady(e engine, name string) *exec.Cmd {
	ref := b.origin.Addr + "/" + name
	switch e := e.(type) {
	case *mica:
		return e.command("run", "-q", "--network", "none", ref, "true")
	case *buildkit:
		return e.buildTo(job{context: b.context("run-" + name), images: []string{name}}, "")
	case *buildah:
		from := e.command("from", "-q", "--tls-verify=false", "--name", "ready-"+name, ref)
		return chain(from, e.command("run", "--isolation", "oci", "--network", "host", "ready-"+name, "--", "/bin/true"))
	}
	return e.command("pull", "-q", ref)
}

const groupArchives = "Archives"

// archiveRows lists saving and loading.
func (b *bench) archiveRows() []row {
	var rows []row
	for _, p := range payloads {
		rows = append(rows, row{
			group: groupArchives, name: "save " + p.title, target: target{Ratio: 0.50}, kinds: builders, store: mainStore,
			setup: func(e engine) error {
				if err := b.publish(p.name); err != nil {
					return err
				}
				_, err := b.having(e.kind(), p.name)
				return err
			},
			command: func(e engine) (*exec.Cmd, error) { return b.save(e, p.name) },
			note:    "BuildKit exports a cached build as `type=docker`, with uncompressed layers like the others.",
		}, row{
			group: groupArchives, name: "load " + p.title + ", ready to run", target: target{Ratio: 0.50}, kinds: withNames,
			setup: func(engine) error { return b.archive(p.name) },
			command: func(e engine) (*exec.Cmd, error) {
				switch e.kind() {
				case kindMica:
					return chain(e.command("load", "-q", "-i", b.archives[p.name]), e.command("run", "-q", "--network", "none", p.name, "true")), nil
				case kindBuildah:
					return e.command("pull", "-q", "docker-archive:"+b.archives[p.name]), nil
				}
				return e.command("load", "-q", "-i", b.archives[p.name]), nil
			},
			note: "The archive is from `docker save`. mica loads it and runs `true`; the others unpack it when they load it.",
		})
	}
	return rows
}

// save writes an image to a new file, in place of the one of the run before.
func (b *bench) save(e engine, name string) (*exec.Cmd, error) {
	file := b.context("saved.tar")
	if err := os.RemoveAll(file); err != nil {
		return nil, err
	}
	switch e := e.(type) {
	case *buildkit:
		output := "type=docker,compression=uncompressed,force-compression=true,name=" + name + ",dest=" + file
		return e.buildTo(job{context: b.context("is-" + name), images: []string{name}}, output), nil
	case *buildah:
		return e.command("push", "-q", "localhost/"+name, "docker-archive:"+file+":"+name), nil
	}
	return e.command("save", "-o", file, name), nil
}

// archive has Docker save an image, once.
func (b *bench) archive(name string) error {
	if b.archives[name] != "" {
		return nil
	}
	e, err := b.having(kindDocker, name)
	if err != nil {
		return err
	}
	b.archives[name] = b.context("archive-" + name + ".tar")
	return all(e.command("save", "-o", b.archives[name], name))
}
