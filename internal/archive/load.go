package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/quota"
)

// Loaded is one image that Load found. Replaced are the names that it took from other images, with their IDs.
type Loaded struct {
	ID       digest.Digest
	Names    []string // familiar forms
	Replaced map[string]digest.Digest
}

// Limits of what an archive may make its reader keep in memory.
const (
	maxJSON    = 4 << 20  // one manifest, config or index
	maxAllJSON = 64 << 20 // all of them together
	maxMembers = 100_000
)

// Load reads the images of an archive as docker save, mica, skopeo, podman or BuildKit write them: a Docker archive or an
// OCI image layout, in a tar, plain or compressed. It is read once, from start to end, so that it may come from a pipe.
// Nothing is named or recorded before all of it is verified. Of an index every image is kept that the archive has, or that for
// one of the platforms alone, if there are any. The caller holds store.Use.
func (a *Archives) Load(ctx context.Context, r io.Reader, platforms ...ocispec.Platform) ([]Loaded, error) {
	in, _, err := compression.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer func() { _ = in.Close() }()
	m := &members{
		a: a, platforms: platforms, json: map[string][]byte{}, layers: map[string]*ingested{}, links: map[string]string{},
	}
	if err := m.read(ctx, in); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	images, err := m.images()
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	for _, img := range images {
		for _, n := range img.names {
			if _, err := image.ParseName(n); err != nil {
				return nil, fmt.Errorf("load: name %s: %w", n, err)
			}
		}
	}
	var loaded []Loaded
	for _, img := range images {
		l, err := a.adopt(ctx, img)
		if err != nil {
			return nil, fmt.Errorf("load: %w", err)
		}
		loaded = append(loaded, *l)
	}
	return loaded, nil
}

// members is what is in an archive: small JSON files, layers (in the store already), and links between names.
type members struct {
	a         *Archives
	platforms []ocispec.Platform // that are wanted; none for all
	json      map[string][]byte
	jsonSize  int
	layers    map[string]*ingested
	links     map[string]string
	count     int
}

// ingested is a member that is a layer, or why it is none.
type ingested struct {
	layer *layer.Layer
	pack  ocispec.Descriptor
	err   error
}

func (m *members) read(ctx context.Context, in io.Reader) error {
	tr := tar.NewReader(in)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return archiveError(err, m.count)
		}
		if m.count++; m.count > maxMembers {
			return fmt.Errorf("the archive has more than %d members", maxMembers)
		}
		name, err := memberName(h.Name)
		if err != nil {
			return err
		}
		if m.jsonSize += len(name) + len(h.Linkname); m.jsonSize > maxAllJSON {
			return fmt.Errorf("names, manifests and configs take more than %d bytes", maxAllJSON)
		}
		if err := m.member(ctx, name, h, tr); err != nil {
			return err
		}
	}
	if m.count == 0 {
		return errors.New("the input is not an image archive: it is empty")
	}
	// What follows the end of the tar must still decompress: a truncated file shows there.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return archiveError(err, m.count)
	}
	return nil
}

// archiveError says in users' words what is wrong with a tar.
func archiveError(err error, members int) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the archive is truncated")
	case members == 0:
		return fmt.Errorf("the input is not an image archive: %w", err)
	}
	return fmt.Errorf("the archive is damaged: %w", err)
}

func (m *members) member(ctx context.Context, name string, h *tar.Header, r io.Reader) error {
	if m.has(name) && h.Typeflag != tar.TypeDir {
		return fmt.Errorf("the archive has %q twice", name)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return m.file(ctx, name, h.Size, r)
	case tar.TypeSymlink:
		// docker save of old writes one for a layer that is there already.
		target, err := memberName(path.Join(path.Dir(name), h.Linkname)) //nolint:gosec // memberName refuses what leads out
		if err != nil || path.IsAbs(h.Linkname) {
			return fmt.Errorf("link %q points outside of the archive", name)
		}
		m.links[name] = target
	case tar.TypeLink:
		target, err := memberName(h.Linkname)
		if err != nil {
			return fmt.Errorf("link %q points outside of the archive", name)
		}
		m.links[name] = target
	}
	return nil
}

func (m *members) has(name string) bool {
	return m.json[name] != nil || m.layers[name] != nil || m.links[name] != ""
}

// tarMagic stands in the header of a tar's first member, whose name comes before it and may begin as JSON does.
const (
	tarMagic   = "ustar"
	tarMagicAt = 257
)

// file takes a member by its first bytes: JSON and what is too short for a tar is kept, anything else is taken for a layer.
// That may have no bytes at all, and no files then.
func (m *members) file(ctx context.Context, name string, size int64, r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(tarMagicAt + len(tarMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return archiveError(err, m.count)
	}
	isLayer := size == 0 || compression.Detect(head) != compression.None || bytes.HasSuffix(head, []byte(tarMagic))
	if !isLayer && (size < 512 || head[0] == '{' || head[0] == '[') {
		return m.small(name, size, in)
	}
	l, pack, err := m.a.Layers.Ingest(ctx, in, "", "")
	if err != nil && isStoreFailure(ctx, err) {
		return err
	}
	if errors.Is(err, quota.ErrExceeded) {
		return fmt.Errorf("%s: %w", name, err) // to read on to its end may take hours
	}
	// Whether it matters is known when the manifests have been read.
	m.layers[name] = &ingested{l, pack, err}
	return nil
}

func (m *members) small(name string, size int64, in io.Reader) error {
	if size > maxJSON {
		return fmt.Errorf("member %q is larger than the %d bytes that a manifest or config may have", name, maxJSON)
	}
	if m.jsonSize += int(size); m.jsonSize > maxAllJSON {
		return fmt.Errorf("manifests and configs take more than %d bytes", maxAllJSON)
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return archiveError(err, m.count)
	}
	if data == nil {
		data = []byte{}
	}
	m.json[name] = data
	return nil
}

// follow resolves links between members.
func (m *members) follow(name string) string {
	for range 8 {
		target, ok := m.links[name]
		if !ok {
			break
		}
		name = target
	}
	return name
}

func (m *members) readJSON(name, what string) ([]byte, error) {
	clean, err := memberName(name)
	if err != nil {
		return nil, err
	}
	data, ok := m.json[m.follow(clean)]
	if !ok || len(bytes.TrimSpace(data)) == 0 {
		return nil, &lacksError{what, name}
	}
	return data, nil
}

// layer is the layer in member name, which is to have the given DiffID.
func (m *members) layer(name string, id digest.Digest) (*ingested, error) {
	clean, err := memberName(name)
	if err != nil {
		return nil, err
	}
	l, ok := m.layers[m.follow(clean)]
	switch {
	case !ok:
		return nil, &lacksError{"layer", name}
	case l.err != nil:
		return nil, fmt.Errorf("layer %s: %w", name, l.err)
	case l.layer.DiffID != id:
		return nil, fmt.Errorf("layer %s: digest mismatch: the config says %s, its content is %s", name, id, l.layer.DiffID)
	}
	return l, nil
}
