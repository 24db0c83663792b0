package ocilayout

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/oci"
)

const dockerManifestName = "manifest.json"

// dockerEntry is an entry of Docker's manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// readDockerManifest adds the images of manifest.json. In an archive that is also a layout, manifest.json only adds names to
// the manifests of index.json.
func (s *Source) readDockerManifest(ctx context.Context, isLayout bool) error {
	var list []dockerEntry
	_, err := readJSON(s.files, dockerManifestName, &list)
	if errors.Is(err, fs.ErrNotExist) {
		if isLayout {
			return nil
		}
		return errors.New("not an image archive: it has neither manifest.json nor index.json")
	}
	if err != nil {
		return err
	}
	if len(list) > maxMembers {
		return fmt.Errorf("manifest.json has more than %d entries", maxMembers)
	}
	byConfig := map[digest.Digest][]int{}
	w := s.newWalker()
	for i, e := range s.entries {
		err := w.walk(ctx, e.desc, 0, func(_ ocispec.Descriptor, m *manifest) {
			byConfig[m.Config.Digest] = append(byConfig[m.Config.Digest], i)
		})
		if err != nil {
			return err
		}
	}
	for i, e := range list {
		config, _, err := s.readConfig(e.Config)
		if err != nil {
			return err
		}
		known := byConfig[config.Digest]
		for _, k := range known {
			s.entries[k].names = append(s.entries[k].names, e.RepoTags...)
			s.entries[k].tags = append(s.entries[k].tags, e.RepoTags...)
		}
		if len(known) == 0 {
			s.entries = append(s.entries, entry{names: e.RepoTags, tags: e.RepoTags, docker: &list[i]})
		}
	}
	return nil
}

// readConfig returns the descriptor and the DiffIDs of a config.
func (s *Source) readConfig(name string) (ocispec.Descriptor, []digest.Digest, error) {
	raw, err := s.ConfigFile(name)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	ids, err := oci.DiffIDs(raw)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, ids, err
}

// synthesise makes a manifest for an image without one, from the config and layers as they are. The same archive gives the
// same manifest. The caller holds s.mu.
func (s *Source) synthesise(ctx context.Context, e *dockerEntry) (ocispec.Descriptor, error) {
	config, ids, err := s.readConfig(e.Config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(ids) != len(e.Layers) {
		return ocispec.Descriptor{}, fmt.Errorf("config %s has %d layers, manifest.json %d", e.Config, len(ids), len(e.Layers))
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{},
	}
	s.places[config.Digest] = e.Config
	for i, name := range e.Layers {
		d, err := s.hashLayer(ctx, name, ids[i])
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w", name, err)
		}
		s.places[d.Digest] = name
		m.Layers = append(m.Layers, d)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	s.made[d.Digest] = raw
	return d, nil
}

// hashLayer returns the descriptor of a layer as it is, and checks its DiffID.
func (s *Source) hashLayer(ctx context.Context, name string, id digest.Digest) (ocispec.Descriptor, error) {
	var d ocispec.Descriptor
	file, size, err := s.files.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return d, errors.New("the archive lacks it")
	}
	if err != nil {
		return d, err
	}
	defer func() { _ = file.Close() }()
	blob := digest.SHA256.Digester()
	in := bufio.NewReaderSize(io.TeeReader(contextReader{ctx, file}, blob.Hash()), 256<<10)
	out, algorithm, err := compression.NewReader(in)
	if err != nil {
		return d, err
	}
	defer func() { _ = out.Close() }()
	if d.MediaType = oci.LayerType(string(algorithm)); !oci.IsLayer(d.MediaType) {
		return d, fmt.Errorf("it is compressed with %s, which manifests have no name for: only gzip and zstd", algorithm)
	}
	tar := blob
	if algorithm != compression.None {
		tar = digest.SHA256.Digester()
		if _, err := io.Copy(tar.Hash(), out); err != nil {
			return d, err
		}
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return d, err
	}
	if tar.Digest() != id {
		return d, fmt.Errorf("digest mismatch: the config says %s, its content is %s", id, tar.Digest())
	}
	d.Digest, d.Size = blob.Digest(), size
	return d, nil
}
