package layer

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source is a packed form of a layer that registries have, whether or not the store does.
type Source struct {
	Pack ocispec.Descriptor `json:"pack"`
	// Recipe is how mica made the pack of the layer's tar, "gzip-members:5"; "" where somebody else did.
	Recipe string `json:"recipe,omitempty"`
	// Repositories have the blob, newest first: "docker.io/library/nginx".
	Repositories []string `json:"repositories"`
}

const (
	sourcesFile = "sources"
	// What is remembered is an aid, not a record of all that ever was.
	maxSources      = 8
	maxRepositories = 16
)

// Sources lists the packed forms that are known, newest first. What cannot be read is forgotten.
func (l *Layers) Sources(id digest.Digest) []Source {
	if validID(id) != nil {
		return nil
	}
	data, err := os.ReadFile(l.path(id, sourcesFile))
	var list []Source
	if err != nil || json.Unmarshal(data, &list) != nil {
		return nil
	}
	return slices.DeleteFunc(list, func(s Source) bool { return validID(s.Pack.Digest) != nil || s.Pack.Size < 0 })
}

// AddSource remembers a packed form and who has it. A layer that is not in the store is not remembered.
func (l *Layers) AddSource(id digest.Digest, add Source) error {
	if err := validID(id); err != nil {
		return err
	}
	add.Pack = ocispec.Descriptor{MediaType: add.Pack.MediaType, Digest: add.Pack.Digest, Size: add.Pack.Size}
	lock, err := l.lock(context.Background(), id)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	list := l.Sources(id)
	if i := slices.IndexFunc(list, func(s Source) bool { return s.Pack.Digest == add.Pack.Digest }); i >= 0 {
		old := list[i]
		if i == 0 && add.Recipe == old.Recipe && len(add.Repositories) == 1 && slices.Contains(old.Repositories, add.Repositories[0]) {
			return nil
		}
		for _, r := range old.Repositories {
			if !slices.Contains(add.Repositories, r) {
				add.Repositories = append(add.Repositories, r)
			}
		}
		if add.Recipe == "" {
			add.Recipe = old.Recipe
		}
		list = slices.Delete(list, i, i+1)
	}
	add.Repositories = add.Repositories[:min(len(add.Repositories), maxRepositories)]
	list = slices.Insert(list, 0, add)
	data, err := json.Marshal(list[:min(len(list), maxSources)])
	if err != nil {
		return fail(id, err)
	}
	temp := l.path(id, sourcesFile+".new")
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fail(id, err)
	}
	return os.Rename(temp, l.path(id, sourcesFile))
}
