//go:build e2e

package remotecache

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/tools/txtar"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/test/rig"
)

// repository is a repository of the registry that has caches.
type repository struct{ *remote.Repository }

func newRepository(t *testing.T, name string) repository {
	t.Helper()
	r, err := remote.NewRepository(peer.registry.Addr + "/" + name)
	must(t, err)
	r.PlainHTTP = true
	return repository{r}
}

// put pushes a document or blob.
func (r repository) put(t *testing.T, d ocispec.Descriptor, data []byte) {
	t.Helper()
	must(t, r.Push(context.Background(), d, bytes.NewReader(data)))
}

// withMica builds with what a tag has, and says what it had to run.
func (c *dockerfile) withMica(t *testing.T, r repository, tag string) (ran []string) {
	t.Helper()
	ctx := context.Background()
	root, err := r.Resolve(ctx, tag)
	must(t, err)
	imports, err := remotecache.Read(ctx, r, root)
	must(t, err)
	h := newHost(t, c, remotecache.New(imports, remotecache.OpenSums(filepath.Join(rig.TempDir(t), "sums"))))
	h.build(ctx)
	if len(h.found) == 0 {
		t.Error("mica finds nothing")
	}
	return h.ran
}

func form(t *testing.T, name string) *dockerfile {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	must(t, err)
	prune(t)
	return unpack(t, a)
}

// TestRegistry exchanges caches by a registry, in the two forms that manifests have.
func TestRegistry(t *testing.T) {
	ctx := context.Background()
	for name, o := range map[string]remotecache.ExportOptions{"image": {}, "index": {Index: true}, "docker": {DockerTypes: true}} {
		t.Run(name, func(t *testing.T) {
			c := form(t, "stages")
			r := newRepository(t, "cache-"+name)
			attrs := ",mode=max,registry.insecure=true" + map[string]string{"index": ",image-manifest=false", "docker": ",oci-mediatypes=false"}[name]
			c.buildkit(t, "--export-cache", "type=registry,ref="+peer.registry.Addr+"/cache-"+name+":theirs"+attrs)
			if ran := c.withMica(t, r, "theirs"); len(ran) > 0 {
				t.Errorf("mica runs %q", ran)
			}
			h := newHost(t, c, remotecache.New(nil, nil))
			o.Mode, o.Blob = remotecache.ModeMax, h.gzip(r.Push)
			x := h.export(ctx, h.build(ctx), o)
			r.put(t, x.ConfigDescriptor, x.Config)
			must(t, r.PushReference(ctx, x.ManifestDescriptor, bytes.NewReader(x.Manifest), "ours"))
			prune(t)
			if ran := c.uncached(t, "--import-cache", "type=registry,ref="+peer.registry.Addr+"/cache-"+name+":ours"); len(ran) > 0 {
				t.Errorf("BuildKit runs %q", ran)
			}
		})
	}
}

// TestMin compares which steps have results when only the image's own layers are exported.
func TestMin(t *testing.T) {
	ctx := context.Background()
	for _, name := range []string{"stages", "mounts"} {
		t.Run(name, func(t *testing.T) {
			c := form(t, name)
			theirs := filepath.Join(rig.TempDir(t), "cache")
			c.buildkit(t, "--export-cache", "type=local,mode=min,dest="+theirs)
			from, root := openLayout(t, theirs)
			h := newHost(t, c, remotecache.New(nil, nil))
			ours := newLayout(t, "other")
			x := h.export(ctx, h.build(ctx), remotecache.ExportOptions{Mode: remotecache.ModeMin, Blob: h.gzip(ours.Push)})
			compare(t, readConfig(t, from, root), parseConfig(t, x), false)
			compare(t, readConfig(t, from, root), parseConfig(t, x), true)
			ours.put(t, x)
			prune(t)
			if ran := c.uncached(t, "--import-cache", "type=local,tag=other,src="+ours.dir); len(ran) > 0 {
				t.Errorf("BuildKit runs %q", ran)
			}
		})
	}
}

// TestInline exchanges images that carry their cache.
func TestInline(t *testing.T) {
	ctx := context.Background()
	c := form(t, "line")
	r := newRepository(t, "inline")
	c.buildkit(t, "--export-cache", "type=inline", "--output",
		"type=image,push=true,registry.insecure=true,name="+peer.registry.Addr+"/inline:theirs")
	if ran := c.withMica(t, r, "theirs"); len(ran) > 0 {
		t.Errorf("mica runs %q", ran)
	}
	h := newHost(t, c, remotecache.New(nil, nil))
	h.pushInline(ctx, h.build(ctx), r, "ours")
	prune(t)
	if ran := c.uncached(t, "--import-cache", "type=registry,ref="+peer.registry.Addr+"/inline:ours"); len(ran) > 0 {
		t.Errorf("BuildKit runs %q", ran)
	}
	if ran := c.withMica(t, r, "ours"); len(ran) > 0 {
		t.Errorf("mica runs %q of its own", ran)
	}
}

// pushInline pushes an image with its cache inside.
func (h *host) pushInline(ctx context.Context, b *built, r repository, tag string) {
	h.t.Helper()
	var img map[string]any
	must(h.t, json.Unmarshal(b.config, &img))
	ids, history, layers := []digest.Digest{}, []ocispec.History{}, []ocispec.Descriptor{}
	for _, l := range b.edge.chain {
		d, err := h.gzip(r.Push)(ctx, l)
		must(h.t, err)
		ids, layers = append(ids, l.DiffID), append(layers, d)
		history = append(history, ocispec.History{CreatedBy: l.Description, Created: &l.Created})
	}
	img["rootfs"] = map[string]any{"type": "layers", "diff_ids": ids}
	img["history"] = history
	config, err := json.Marshal(img)
	must(h.t, err)
	config, err = h.cache.Inline(ctx, config, b.edge.step.Key(b.edge.output))
	must(h.t, err)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: layers}
	m.SchemaVersion = 2
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	r.put(h.t, m.Config, config)
	raw, err := json.Marshal(m)
	must(h.t, err)
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	must(h.t, r.PushReference(ctx, d, bytes.NewReader(raw), tag))
}

// TestIndexBase starts from an image that the registry has in an index.
func TestIndexBase(t *testing.T) {
	ctx := context.Background()
	c := form(t, "line")
	c.buildkit(t, "--opt", "attest:provenance=mode=min", "--output",
		"type=image,push=true,registry.insecure=true,name="+peer.registry.Addr+"/indexed:latest")
	c = form(t, "line")
	c.opts[0] = "context:base=docker-image://" + peer.registry.Addr + "/indexed:latest"
	theirs := filepath.Join(rig.TempDir(t), "cache")
	c.buildkit(t, "--export-cache", "type=local,mode=max,dest="+theirs)
	from, root := openLayout(t, theirs)
	h := newHost(t, c, remotecache.New(nil, nil))
	x := h.export(ctx, h.build(ctx), remotecache.ExportOptions{Mode: remotecache.ModeMax, Blob: h.gzip(newLayout(t, "latest").Push)})
	got := names(parseConfig(t, x), false)
	for _, n := range names(readConfig(t, from, root), false) {
		if !slices.Contains(got, n) {
			t.Errorf("%s is missing", n)
		}
	}
}

// TestDownload has mica name a file from the network as BuildKit does.
func TestDownload(t *testing.T) {
	modified := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.ServeContent(w, req, "file", modified, bytes.NewReader([]byte("from afar")))
	}))
	defer s.Close()
	for name, flag := range map[string]string{"plain": "", "checksum": "--checksum=" + digest.FromString("from afar").String()} {
		t.Run(name, func(t *testing.T) {
			prune(t)
			c := unpack(t, txtar.Parse([]byte("-- Dockerfile --\nFROM base\nADD "+flag+" "+s.URL+"/dir/"+name+" /x/\n")))
			theirs := filepath.Join(rig.TempDir(t), "cache")
			c.buildkit(t, "--export-cache", "type=local,mode=max,dest="+theirs)
			from, root := openLayout(t, theirs)
			imports, err := remotecache.Read(context.Background(), from, root)
			must(t, err)
			h := newHost(t, c, remotecache.New(imports, nil))
			h.download = &remotecache.Download{Filename: name, Digest: digest.FromString("from afar")}
			if flag == "" {
				h.download.Modified = &modified
			}
			h.build(context.Background())
			if len(h.ran) > 0 {
				t.Errorf("mica runs %q", h.ran)
			}
		})
	}
}
