//go:build e2e

package remotecache

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/tools/txtar"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/ocilayout"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/test/rig"
)

// unlike are cases that mica sees otherwise than BuildKit, and so names otherwise, or that have no single result.
var unlike = map[string]string{
	"copy/xattrs":                 "mica sees no extended attributes in a context; BuildKit's names count them",
	"copy/xattrs-in-context":      "mica sees no extended attributes in a context; BuildKit's names count them",
	"platforms/index-of-one":      "its result is an index",
	"run/multi-platform-argument": "its result is an index",
}

// TestExchange builds Dockerfiles with either builder, of every shape that there is, compares the names in the caches that
// they export, and has each find every step in the other's.
func TestExchange(t *testing.T) {
	cases := dockerfiles(t)
	for name := range unlike {
		delete(cases, name)
	}
	names := shapes(cases)
	t.Logf("%d of %d cases", len(names), len(cases))
	for _, name := range names {
		t.Run(name, func(t *testing.T) { exchange(t, cases[name]) })
	}
}

func exchange(t *testing.T, a *txtar.Archive) {
	ctx := context.Background()
	c := unpack(t, a)
	prune(t)
	theirs := filepath.Join(rig.TempDir(t), "cache")
	if out := c.try(t, "--export-cache", "type=local,mode=max,dest="+theirs); out.Code != 0 {
		t.Fatalf("BuildKit does not build it: %s", out.Stderr)
	}
	h := newHost(t, c, remotecache.New(nil, nil))
	ours := newLayout(t, "latest")
	x := h.export(ctx, h.build(ctx), remotecache.ExportOptions{Mode: remotecache.ModeMax, Blob: h.gzip(ours.Push)})
	if _, err := os.Stat(filepath.Join(theirs, "index.json")); err != nil {
		if x != nil {
			t.Error("BuildKit exports nothing")
		}
		return
	}
	if x == nil {
		t.Fatal("nothing is exported")
	}
	from, root := openLayout(t, theirs)
	compare(t, readConfig(t, from, root), parseConfig(t, x), false)

	imports, err := remotecache.Read(ctx, from, root)
	must(t, err)
	second := newHost(t, c, remotecache.New(imports, nil))
	second.build(ctx)
	if len(second.ran) > 0 {
		t.Errorf("mica runs %q", second.ran)
	}

	ours.put(t, x)
	prune(t)
	if ran := c.uncached(t, "--import-cache", "type=local,src="+ours.dir); len(ran) > 0 {
		t.Errorf("BuildKit runs %q", ran)
	}
}

func (h *host) export(ctx context.Context, b *built, o remotecache.ExportOptions) *remotecache.Exported {
	h.t.Helper()
	if b.edge == nil {
		return nil
	}
	x, err := h.cache.Export(ctx, o, b.edge.step.Key(b.edge.output))
	must(h.t, err)
	return x
}

// layout is a layout in a directory that a cache is written to.
type layout struct {
	*ocilayout.Destination
	dir string
}

func newLayout(t *testing.T, tag string) *layout {
	t.Helper()
	at := &ocilayout.Location{Kind: ocilayout.OCI, Path: filepath.Join(rig.TempDir(t), "cache"), Ref: tag}
	dst, err := at.Create(t.Context(), ocilayout.CreateOptions{})
	must(t, err)
	t.Cleanup(func() { must(t, dst.Close()) })
	return &layout{dst, at.Path}
}

func (l *layout) put(t *testing.T, x *remotecache.Exported) {
	t.Helper()
	must(t, x.Push(t.Context(), l))
	must(t, l.Commit(t.Context(), x.ManifestDescriptor))
}

// openLayout opens the cache that is called latest in a directory.
func openLayout(t *testing.T, dir string) (*ocilayout.Source, ocispec.Descriptor) {
	t.Helper()
	src, err := (&ocilayout.Location{Kind: ocilayout.OCI, Path: dir, Ref: "latest"}).Open(t.Context(), "")
	must(t, err)
	t.Cleanup(func() { must(t, src.Close()) })
	root, err := src.Root(t.Context())
	must(t, err)
	return src, root
}

// gzip pushes layers.
func (h *host) gzip(push func(context.Context, ocispec.Descriptor, io.Reader) error) func(context.Context, remotecache.Layer) (ocispec.Descriptor, error) {
	return func(ctx context.Context, l remotecache.Layer) (d ocispec.Descriptor, err error) {
		tar, err := h.layers.OpenTar(ctx, l.DiffID)
		if err != nil {
			return d, err
		}
		defer func() { _ = tar.Close() }()
		var blob bytes.Buffer
		z, err := compression.NewWriter(&blob, compression.Gzip, 0)
		if err != nil {
			return d, err
		}
		if _, err := io.Copy(z, tar); err != nil {
			return d, err
		}
		if err := z.Close(); err != nil {
			return d, err
		}
		d = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(blob.Bytes()), Size: int64(blob.Len())}
		return d, push(ctx, d, &blob)
	}
}

func parseConfig(t *testing.T, x *remotecache.Exported) *cachetypes.CacheConfig {
	t.Helper()
	c := &cachetypes.CacheConfig{}
	must(t, json.Unmarshal(x.Config, c))
	return c
}

// readConfig reads the config of a cache manifest in the form of an image.
func readConfig(t *testing.T, p content.Fetcher, root ocispec.Descriptor) *cachetypes.CacheConfig {
	t.Helper()
	var m ocispec.Manifest
	readJSON(t, p, root, &m)
	c := &cachetypes.CacheConfig{}
	readJSON(t, p, m.Config, c)
	return c
}

func readJSON(t *testing.T, p content.Fetcher, d ocispec.Descriptor, doc any) {
	t.Helper()
	f, err := p.Fetch(context.Background(), d)
	must(t, err)
	defer func() { _ = f.Close() }()
	must(t, json.NewDecoder(f).Decode(doc))
}

// names lists the names of records, of those with a result only if asked so.
func names(c *cachetypes.CacheConfig, results bool) []string {
	var list []string
	for _, r := range c.Records {
		if !results || len(r.Results) > 0 {
			list = append(list, r.Digest.String())
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func compare(t *testing.T, theirs, ours *cachetypes.CacheConfig, results bool) {
	t.Helper()
	want, got := names(theirs, results), names(ours, results)
	if slices.Equal(want, got) {
		return
	}
	w, _ := json.MarshalIndent(theirs, "", " ")
	g, _ := json.MarshalIndent(ours, "", " ")
	t.Errorf("records are named %q, BuildKit's %q\nBuildKit: %s\nmica: %s", got, want, w, g)
}
