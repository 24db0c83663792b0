//go:build e2e

// Package flatten has all that reads a chain of layers read odd ones, and compares what they see. It needs root, to mount.
package flatten

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/transfer"
	"github.com/micabuild/mica/test/flatten/listing"
	"github.com/micabuild/mica/test/rig"
)

// wanted is how many chains are compared.
const wanted = 200

// flat is a chain that mica accepts, and what is in it by the tables of contents alone.
type flat struct {
	*chain
	seed  uint64
	files listing.Files
}

// view flattens a chain without unpacking it.
func view(t *testing.T, layers *layer.Layers, c *chain) (listing.Files, error) {
	t.Helper()
	var chain []digest.Digest
	for _, tar := range c.layers {
		l, _, err := layers.Ingest(t.Context(), bytes.NewReader(tar), "", "")
		if err != nil {
			return nil, err
		}
		chain = append(chain, l.DiffID)
	}
	v, err := layers.View(t.Context(), chain)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := transfer.Export(t.Context(), &out, v); err != nil {
		t.Fatal(err)
	}
	files, err := listing.FromTar(&out, ".", none)
	if err != nil {
		t.Fatal(err)
	}
	return files, nil
}

func none(string) bool { return false }

func newLayers(t *testing.T) *layer.Layers {
	t.Helper()
	s, err := store.Open(filepath.Join(rig.TempDir(t), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return layer.New(s)
}

// chains returns those of the first seeds that mica accepts.
func chains(t *testing.T) (found []*flat) {
	t.Helper()
	layers := newLayers(t)
	for seed := uint64(1); len(found) < wanted; seed++ {
		c := newChain(t, seed)
		if files, err := view(t, layers, c); err == nil {
			found = append(found, &flat{c, seed, files})
		}
	}
	return found
}

// TestChainsAreDockers compares chains with what containerd makes of them. What mica refuses, containerd refuses, too.
func TestChainsAreDockers(t *testing.T) {
	layers := newLayers(t)
	for seed, compared := uint64(1), 0; compared < wanted; seed++ {
		c := newChain(t, seed)
		if c.unlike {
			continue
		}
		want, dockers := docker(t, c)
		got, micas := view(t, layers, c)
		switch {
		case micas != nil && dockers == nil:
			t.Errorf("chain %d is refused: %v\n%s", seed, micas, c)
		case micas == nil && dockers == nil:
			compared++
			if diff := cmp.Diff(common(want), common(got)); diff != "" {
				t.Errorf("chain %d (-containerd +mica):\n%s%s", seed, diff, c)
			}
		}
	}
}

// String lists a chain's members.
func (c *chain) String() string {
	var b strings.Builder
	for i, l := range c.layers {
		fmt.Fprintf(&b, "layer %d\n", i)
		for tr := tar.NewReader(bytes.NewReader(l)); ; {
			h, err := tr.Next()
			if err != nil {
				break
			}
			fmt.Fprintf(&b, "\t%c %04o %d:%d %q %q %d:%d %v %v\n", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Name, h.Linkname, h.Devmajor, h.Devminor, h.PAXRecords, h.ModTime.Unix())
		}
	}
	return b.String()
}

// bench is what the readers need: the chains, an archive of them as images, and a build context with the lister in it.
type bench struct {
	found          []*flat
	saved, context string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{found: chains(t), context: rig.TempDir(t)}
	b.saved = filepath.Join(b.context, "images.tar")
	build := exec.Command("go", "build", "-o", filepath.Join(b.context, "lister"), "./test/flatten/lister")
	build.Dir, build.Env = rig.Top(), append(os.Environ(), "CGO_ENABLED=0")
	if out := rig.Run(t, build); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	f, err := os.Create(b.saved)
	if err != nil {
		t.Fatal(err)
	}
	var images []rig.Image
	for i, c := range b.found {
		images = append(images, rig.Image{Names: []string{name(i) + ":latest"}, Config: map[string]any{"architecture": "amd64", "os": "linux"}, Layers: c.layers})
	}
	rig.WriteArchive(t, f, images...)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "chmod", "-R", "a+rX", b.context)
	return b
}

// TestReadersAgree compares export, run, RUN and COPY --from, with trees of either kind, and as an ordinary user.
func TestReadersAgree(t *testing.T) {
	b := newBench(t)
	for what, env := range map[string]string{"default": "MICA_TREES=", "directories": "MICA_TREES=directories"} {
		t.Run(what, func(t *testing.T) {
			m := rig.NewMica(t)
			m.Env = append(m.Env, env)
			m.Run("load", "-q", "-i", b.saved)
			r := &readers{m, b, nil}
			r.export(t)
			r.run(t)
			r.build(t)
		})
	}
	t.Run("user", func(t *testing.T) {
		m := rig.AsUser(t, "mica-flatten", true)
		m.Run("load", "-q", "-i", b.saved)
		r := &readers{m, b, devices}
		r.build(t)
	})
}

// devices are what an ordinary user's trees have none of.
func devices(f *listing.File) bool { return f.Type == tar.TypeChar || f.Type == tar.TypeBlock }

func name(i int) string { return fmt.Sprintf("chain-%03d", i) }

// readers are what reads chains.
type readers struct {
	*rig.Mica
	*bench
	omit func(*listing.File) bool // what the root filesystems of this mica lack
}

// each does something with every chain, two at once.
func (r *readers) each(t *testing.T, do func(i int) (listing.Files, error)) {
	t.Helper()
	got := make([]listing.Files, len(r.found))
	var g errgroup.Group
	g.SetLimit(3)
	for i := range r.found {
		g.Go(func() (err error) {
			if got[i], err = do(i); err != nil {
				err = fmt.Errorf("chain %d: %w\n%s", r.found[i].seed, err, r.found[i])
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		r.same(t, "", i, got[i])
	}
}

// same compares what a reader has seen of a chain with its View.
func (r *readers) same(t *testing.T, who string, i int, got listing.Files) {
	t.Helper()
	want := r.found[i].files
	if who == "COPY" {
		want, got = ownLinks(want), ownLinks(got)
	}
	if r.omit != nil {
		want, got = slices.DeleteFunc(slices.Clone(want), r.omit), slices.DeleteFunc(got, r.omit)
	}
	if diff := cmp.Diff(want.Lines(), got.Lines()); diff != "" {
		t.Errorf("%s: chain %d (-view +got):\n%s%s", who, r.found[i].seed, diff, r.found[i])
	}
}

// ownLinks leaves out that symlinks and devices have several names: COPY keeps hard links of regular files, as BuildKit does.
func ownLinks(files listing.Files) listing.Files {
	own := make(listing.Files, len(files))
	for i, f := range files {
		c := *f
		if c.Type != tar.TypeReg {
			c.Same = ""
		}
		own[i] = &c
	}
	return own
}

func (r *readers) export(t *testing.T) {
	t.Helper()
	r.each(t, func(i int) (listing.Files, error) {
		out, err := r.Command("export", name(i)).Output()
		if err != nil {
			return nil, err
		}
		return listing.FromTar(bytes.NewReader(out), ".", none)
	})
}

func (r *readers) run(t *testing.T) {
	t.Helper()
	to := rig.TempDir(t)
	r.each(t, func(i int) (listing.Files, error) {
		cmd := r.Command("run", "-v", filepath.Join(r.context, "lister")+":/.lister:ro", "-v", to+":/.lister-out", name(i), "/.lister", "/.lister-out/"+name(i))
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
		data, err := os.ReadFile(filepath.Join(to, name(i)))
		if err != nil {
			return nil, err
		}
		return decode(data)
	})
}

func decode(data []byte) (files listing.Files, err error) {
	return files, json.Unmarshal(data, &files)
}

// build has one build list the root of each chain in a RUN, and copy each.
func (r *readers) build(t *testing.T) {
	t.Helper()
	var stages, last strings.Builder
	stages.WriteString("FROM scratch AS tools\nCOPY lister /\n")
	last.WriteString("FROM scratch\n")
	for i, c := range r.found {
		if c.large && r.omit != nil {
			continue
		}
		fmt.Fprintf(&stages, "FROM %s AS run-%d\nRUN --mount=from=tools,target=/.lister [\"/.lister/lister\", \"/.lister-out\"]\n", name(i), i)
		fmt.Fprintf(&last, "COPY --from=run-%d /.lister-out /run/%s\nCOPY --from=%s / /copy/%s/\n", i, name(i), name(i), name(i))
	}
	out := r.RunIn(strings.NewReader(stages.String()+last.String()), "build", "-q", "-f", "-", "-o", "-", r.context)
	members, err := listing.Split(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range r.found {
		if c.large && r.omit != nil {
			continue
		}
		seen := members["run/"+name(i)]
		if seen == nil {
			t.Fatalf("chain %d was not listed", r.found[i].seed)
		}
		files, err := decode(seen.Content)
		if err != nil {
			t.Fatal(err)
		}
		r.same(t, "RUN", i, files)
		r.same(t, "COPY", i, members.Below("copy/"+name(i), none))
	}
}
