package layer

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// packs returns the blobs that hold the layer and are in the store. A list that cannot be read is an empty one: it is
// written again with the next blob that comes.
func (l *Layers) packs(id digest.Digest) ([]ocispec.Descriptor, error) {
	data, err := os.ReadFile(l.path(id, packsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fail(id, err)
	}
	var all, here []ocispec.Descriptor
	if json.Unmarshal(data, &all) != nil {
		return nil, nil //nolint:nilerr // see above
	}
	for _, d := range all {
		if size, err := l.store.StatBlob(d.Digest); err == nil && size == d.Size {
			here = append(here, d)
		}
	}
	return here, nil
}

// addPacks adds to the layer's list of blobs. The caller holds the layer's lock.
func (l *Layers) addPacks(id digest.Digest, add []ocispec.Descriptor) error {
	packs, err := l.packs(id)
	if err != nil {
		return err
	}
	n := len(packs)
	for _, d := range add {
		if !holds(packs, d.Digest) {
			packs = append(packs, d)
		}
	}
	if len(packs) == n {
		return nil
	}
	temp := l.path(id, packsFile+".new")
	if err := writePacks(temp, packs); err != nil {
		return err
	}
	return os.Rename(temp, l.path(id, packsFile))
}

func holds(packs []ocispec.Descriptor, d digest.Digest) bool {
	for _, p := range packs {
		if p.Digest == d {
			return true
		}
	}
	return false
}

func writePacks(path string, packs []ocispec.Descriptor) error {
	data, err := json.Marshal(packs)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
