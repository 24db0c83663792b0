//go:build e2e

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/micabuild/mica/test/rig"
)

// bench is what the measuring needs: the workloads, the engines, and the registry that images are pulled from.
type bench struct {
	*options
	dir                   string
	peers                 string // where the peers' programs are
	micaPath, buildahPath string
	baseTar, baseArchive  string // the base image: its root filesystem; as docker save writes it
	manyBytes, bigBytes   int64
	baseBytes             int64
	origin                *rig.Registry
	origins               map[string]string // references of the origin's images with digests
	sink                  *rig.Registry     // what is pushed to, empty
	sinkDir               string
	engines               map[string]engine // those that rows share
	ready                 map[string]bool   // what they have been given
	round                 int
	volumes               map[engine]*volume // of each engine that lives
	archives              map[string]string
}

// start makes the workloads and the base image.
func (b *bench) start() error {
	b.peers = filepath.Join(rig.Top(), "bin", "peers")
	b.origins, b.ready, b.archives = map[string]string{}, map[string]bool{}, map[string]string{}
	b.volumes = map[engine]*volume{}
	// A copy: another build in the meantime changes nothing, and no other mica counts as this one.
	b.micaPath = filepath.Join(b.dir, "mica")
	if err := all(exec.Command("cp", b.mica, b.micaPath)); err != nil {
		return err
	}
	b.buildahPath = filepath.Join(b.peers, "buildah")
	if _, err := os.Stat(b.buildahPath); err != nil {
		b.buildahPath = "/usr/bin/buildah"
	}
	if err := b.writeContexts(); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(b.dir, "origin"), 0o755); err != nil {
		return err
	}
	var err error
	if b.origin, err = rig.StartRegistry(filepath.Join(b.dir, "origin")); err != nil {
		return err
	}
	return b.makeBase()
}

// makeBase makes the base image: a tar, an archive, and in the registry.
func (b *bench) makeBase() (err error) {
	if b.baseTar, err = rig.BusyboxTar(b.dir); err != nil {
		return err
	}
	info, err := os.Stat(b.baseTar)
	if err != nil {
		return err
	}
	b.baseBytes, b.baseArchive = info.Size(), filepath.Join(b.dir, "base.tar")
	m, err := b.shared(kindMica, mainStore)
	if err != nil {
		return err
	}
	to := b.origin.Addr + "/base"
	if err := all(m.command("save", "-o", b.baseArchive, "base"), m.command("tag", "base", to), m.command("push", "-q", to), m.command("rmi", to)); err != nil {
		return err
	}
	return b.resolve("base")
}

// resolve notes the digest of an image of the origin.
func (b *bench) resolve(name string) error {
	ref := b.origin.Addr + "/" + name
	out, err := exec.Command(filepath.Join(b.peers, "crane"), "digest", ref).Output()
	if err != nil {
		return fmt.Errorf("digest of %s: %w", ref, err)
	}
	b.origins[name] = ref + "@" + strings.TrimSpace(string(out))
	return nil
}

// publish builds an image of a context of that name and puts it into the origin, for all to pull.
func (b *bench) publish(name string) error {
	if b.origins[name] != "" {
		return nil
	}
	e, err := b.having(kindBuildah, name)
	if err != nil {
		return err
	}
	if err := all(e.(*buildah).push(name, b.origin.Addr+"/"+name)); err != nil {
		return err
	}
	return b.resolve(name)
}

// having is the main engine of a kind after it has built the image of that name.
func (b *bench) having(k kind, name string) (engine, error) {
	e, err := b.shared(k, mainStore)
	if err != nil {
		return nil, err
	}
	if k == kindBuildKit || k == kindCrane {
		return e, nil // they have no images by name
	}
	return e, b.once(e, job{context: b.context(name), tag: name})
}

// emptySink is a registry that has nothing, in place of the one before.
func (b *bench) emptySink() (string, error) {
	if b.sink != nil {
		err := errors.Join(b.sink.Stop(), os.RemoveAll(b.sinkDir))
		if b.sink = nil; err != nil {
			return "", err
		}
	}
	var err error
	if b.sinkDir, err = os.MkdirTemp(b.dir, "sink-"); err != nil {
		return "", err
	}
	if b.sink, err = rig.StartRegistry(b.sinkDir); err != nil {
		return "", err
	}
	return b.sink.Addr, nil
}

// fresh is a value that no build has had.
func (b *bench) fresh() string {
	b.round++
	return fmt.Sprintf("%d-%d", os.Getpid(), b.round)
}

func (b *bench) close() error {
	var errs []error
	for e := range b.volumes {
		errs = append(errs, b.discard(e))
	}
	for _, r := range []*rig.Registry{b.origin, b.sink} {
		if r != nil {
			errs = append(errs, r.Stop())
		}
	}
	errs = append(errs, unmountBelow(b.dir))
	return errors.Join(errs...)
}
