package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// client is a store and a client of registries that retries at once.
type client struct {
	*Local
	t      testing.TB
	docker *configfile.ConfigFile
	client *registry.Client
}

func newClient(t testing.TB) *client {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	l := layer.New(s)
	c := &client{Local: &Local{Store: s, Layers: l, Images: image.New(s, l)}, t: t, docker: configfile.New("")}
	c.client = registry.New(registry.Options{Docker: c.docker, RegistriesConf: os.DevNull, UserAgent: "test", FirstWait: time.Millisecond})
	l.SetFetch(c.client.OpenBlob)
	return c
}

// login makes the client send a password to a registry.
func (c *client) login(addr, user, password string) {
	c.docker.AuthConfigs[addr] = types.AuthConfig{Username: user, Password: password, ServerAddress: addr}
}

func parseName(t testing.TB, name string) reference.Named {
	t.Helper()
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	return reference.TagNameOnly(named)
}

func (c *client) tryPull(name string, o PullOptions) (*Pulled, error) {
	c.t.Helper()
	return Pull(c.t.Context(), c.client, c.Local, parseName(c.t, name), o)
}

func (c *client) pull(name string, platforms ...string) *Pulled {
	c.t.Helper()
	var o PullOptions
	for _, p := range platforms {
		if p == "all" {
			o.AllPlatforms = true
			continue
		}
		os, arch, _ := strings.Cut(p, "/")
		o.Platforms = append(o.Platforms, ocispec.Platform{OS: os, Architecture: arch})
	}
	got, err := c.tryPull(name, o)
	if err != nil {
		c.t.Fatalf("pull %s: %v", name, err)
	}
	return got
}

func (c *client) tryPush(name string, o PushOptions) (*Pushed, error) {
	c.t.Helper()
	root, err := c.Images.Root(c.t.Context(), parseName(c.t, name).String())
	if err != nil {
		c.t.Fatal(err)
	}
	return Push(c.t.Context(), c.client, c.Local, parseName(c.t, name), root, o)
}

func (c *client) push(name string, o PushOptions) *Pushed {
	c.t.Helper()
	got, err := c.tryPush(name, o)
	if err != nil {
		c.t.Fatalf("push %s: %v", name, err)
	}
	return got
}

// tag gives the image or index with one name another.
func (c *client) tag(from, to string) {
	c.t.Helper()
	root, err := c.Images.Root(c.t.Context(), parseName(c.t, from).String())
	if err == nil {
		_, err = c.Images.Keep(c.t.Context(), root, parseName(c.t, to).String())
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// build makes an image of two layers, with names. Its file "made" has the given content.
func (c *client) build(made string, names ...string) *image.Image {
	c.t.Helper()
	var ids []digest.Digest
	for name, data := range map[string][]byte{"made": []byte(made), "big": registrytest.Noise(300_000)} {
		l, err := c.Layers.Write(c.t.Context(), []view.Change{{
			Entry:  &view.Entry{Path: name, Type: view.TypeRegular, Mode: 0o644, Size: int64(len(data))},
			Source: view.Files(map[string][]byte{name: data}), SourcePath: name,
		}}, layer.AsBlob)
		if err != nil {
			c.t.Fatal(err)
		}
		ids = append(ids, l.DiffID)
	}
	slices.Sort(ids)
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	img, err := c.Images.Create(c.t.Context(), image.Draft{Config: config})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, n := range names {
		if err := c.Images.Tag(c.t.Context(), img, n); err != nil {
			c.t.Fatal(err)
		}
	}
	return img
}

// content reads a file of an image, for which its layers must be whole.
func (c *client) content(name, file string, platform ...ocispec.Platform) string {
	c.t.Helper()
	var want *ocispec.Platform
	if len(platform) > 0 {
		want = &platform[0]
	}
	img, err := c.Images.FindFor(c.t.Context(), name, want)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, id := range img.Chain() {
		if err := c.Layers.Verify(c.t.Context(), id); err != nil {
			c.t.Fatal(err)
		}
	}
	v, err := c.Layers.View(c.t.Context(), img.Chain())
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := v.Open(c.t.Context(), file)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

// images lists the images and names of the store.
func (c *client) images() string {
	c.t.Helper()
	list, err := c.Images.List(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var lines []string
	for _, img := range list {
		lines = append(lines, fmt.Sprint(img.ID, img.Names, img.Digests))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// refuses calls do, which must return an error of one line that matches, and change no image of the store.
func (c *client) refuses(pattern string, do func() error) {
	c.t.Helper()
	before := c.images()
	err := do()
	if err == nil {
		c.t.Errorf("no error, want %q", pattern)
		return
	}
	if text := err.Error(); strings.Contains(text, "\n") || len(text) > 900 || !regexp.MustCompile(pattern).MatchString(text) {
		c.t.Errorf("error %q, want %q", text, pattern)
	}
	if after := c.images(); after != before {
		c.t.Errorf("the store has %s, not %s", after, before)
	}
}

func (c *client) refusesPull(pattern, name string) {
	c.t.Helper()
	c.refuses(pattern, func() error { _, err := c.tryPull(name, PullOptions{}); return err })
}

func (c *client) refusesPush(pattern, name string) {
	c.t.Helper()
	c.refuses(pattern, func() error { _, err := c.tryPush(name, PushOptions{}); return err })
}

// copies copies an image between repositories and returns its digest.
func (c *client) copies(from, to string, o CopyOptions) string {
	c.t.Helper()
	d, err := c.tryCopy(from, to, o)
	if err != nil {
		c.t.Fatalf("copy %s to %s: %v", from, to, err)
	}
	return d.Digest.String()
}

func (c *client) tryCopy(from, to string, o CopyOptions) (ocispec.Descriptor, error) {
	c.t.Helper()
	src, err := OpenSource(c.t.Context(), c.client, parseName(c.t, from))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer func() { _ = src.Close() }()
	dst, err := OpenDestination(c.t.Context(), c.client, parseName(c.t, to))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer func() { _ = dst.Close() }()
	return Copy(c.t.Context(), src, dst, o)
}

// validate checks that a registry has all of an image, or of an index's images, and returns its digest.
func (c *client) validate(name string) string {
	c.t.Helper()
	var root ocispec.Descriptor
	err := c.client.Try(c.t.Context(), parseName(c.t, name), func(ctx context.Context, repo *registry.Repository) error {
		m, err := repo.FetchManifest(ctx, repo.Reference())
		if err != nil {
			return err
		}
		root = m.Descriptor
		return validate(ctx, repo, root)
	})
	if err != nil {
		c.t.Errorf("%s is not whole: %v", name, err)
	}
	return root.Digest.String()
}

func validate(ctx context.Context, repo *registry.Repository, d ocispec.Descriptor) error {
	if !oci.IsManifestOrIndex(d.MediaType) {
		r := verified(repo.OpenBlob(ctx, d, 0), d)
		_, err := io.Copy(io.Discard, r)
		return err
	}
	m, err := repo.FetchManifest(ctx, d.Digest.String())
	if err != nil {
		return err
	}
	doc, err := m.Parse()
	if err != nil {
		return err
	}
	children := slices.Concat(doc.Layers, doc.Manifests)
	if doc.Config.Digest != "" {
		children = append(children, doc.Config)
	}
	for _, child := range children {
		if err := validate(ctx, repo, child); err != nil {
			return err
		}
	}
	return nil
}
