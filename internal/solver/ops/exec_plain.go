package ops

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/rootfs"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// plainRoot is a root filesystem of plain files, and the chain of layers that it has the files of.
type plainRoot struct {
	tree  *rootfs.Tree
	temp  *store.Temp
	chain []digest.Digest
}

// maxPlainRoots is how many root filesystems a build keeps for its next steps: each takes the space of the image.
const maxPlainRoots = 2

// plainRoot returns the root filesystem of a chain: that which a step has left, or else a new one. The caller owns it.
func (w *Worker) plainRoot(ctx context.Context, v view.View, chain []digest.Digest) (*plainRoot, error) {
	if r := w.takePlainRoot(chain); r != nil {
		return r, nil
	}
	temp, err := w.Host.PlainTemp("root")
	if err != nil {
		return nil, err
	}
	tree, err := rootfs.Lay(ctx, v, ".", filepath.Join(temp.Path, "root"), w.Host.Owners())
	if err != nil {
		w.removeLater(temp)
		return nil, fmt.Errorf("prepare root filesystem: %w", err)
	}
	return &plainRoot{tree, temp, chain}, nil
}

func (w *Worker) takePlainRoot(chain []digest.Digest) *plainRoot {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range w.plainRoots {
		if slices.Equal(r.chain, chain) {
			w.plainRoots = slices.Delete(w.plainRoots, i, i+1)
			return r
		}
	}
	return nil
}

// keepPlainRoot keeps a root filesystem for a next step, in place of the oldest.
func (w *Worker) keepPlainRoot(r *plainRoot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plainRoots = append(w.plainRoots, r)
	if len(w.plainRoots) > maxPlainRoots {
		w.removeLater(w.plainRoots[0].temp)
		w.plainRoots = slices.Delete(w.plainRoots, 0, 1)
	}
}

// addPlain lays out the files of a mount, where nothing can be mounted.
func (o *execOp) addPlain(ctx context.Context, st *State, i int, dir string) error {
	m := o.op.Mounts[i]
	in := o.input(m)
	if in == nil {
		in = &solver.Result{}
	}
	in, err := o.w.asLayers(ctx, in, m.Selector)
	if err != nil {
		return err
	}
	v, err := o.t.View(ctx, in)
	if err != nil {
		return err
	}
	if m.Dest == pb.RootMount {
		if st.root, err = o.w.plainRoot(ctx, v, in.Chain.DiffIDs()); err != nil {
			return err
		}
		st.Process.Plain = st.root.tree
		st.trees[i] = st.root.tree
		return nil
	}
	only, from := ".", selector(m)
	if m.Output == int64(pb.SkipOutput) {
		if only, err = view.Resolve(ctx, v, strings.TrimPrefix(selector(m), "/"), true); err != nil {
			return missing(err, m.Selector, false)
		}
		from = only // the links that lead there are not laid out
	}
	if st.trees[i], err = rootfs.Lay(ctx, v, only, dir, o.w.Host.Owners()); err != nil {
		return err
	}
	source, err := securejoin.SecureJoin(dir, from)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(source); err != nil {
		return missing(err, m.Selector, false)
	}
	st.Process.Mounts = append(st.Process.Mounts, sandbox.Mount{Type: sandbox.MountPlain, Target: m.Dest, Source: source})
	return nil
}

// commitPlain makes a layer of what the process has changed in the files of a mount, on top of a result.
func (o *execOp) commitPlain(ctx context.Context, st *State, i int, in *solver.Result) (*solver.Result, error) {
	in, err := o.w.asLayers(ctx, in, "/")
	if err != nil {
		return nil, err
	}
	base, err := o.t.View(ctx, in)
	if err != nil {
		return nil, err
	}
	changes, err := st.trees[i].Changes(ctx, base)
	if err != nil {
		return nil, fmt.Errorf("commit layer: %w", err)
	}
	l, err := o.w.Layers.Write(ctx, changes, layer.AsBlob)
	if err != nil {
		return nil, err
	}
	made := buildcache.Link{DiffID: l.DiffID, Created: time.Now().UTC(), Description: o.t.Vertex.Name}
	out := &solver.Result{Chain: in.Chain.On(made)}
	if r := st.root; r != nil && st.trees[i] == r.tree {
		st.root, r.chain = nil, out.Chain.DiffIDs()
		o.w.keepPlainRoot(r)
	}
	return out, nil
}
