package layer

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// KnownBlob is a blob of a layer that can be made again, or that registries have, whether or not the store does.
type KnownBlob struct {
	Blob ocispec.Descriptor `json:"blob"`
	// Recipe is how mica made the blob of the layer's tar, "gzip-members:5"; "" where somebody else did.
	Recipe string `json:"recipe,omitempty"`
	// Repositories have the blob, newest first: "docker.io/library/nginx".
	Repositories []string `json:"repositories"`
}

// What is remembered helps, but is not a record of everything.
const (
	maxKnown        = 8
	maxRepositories = 16
)

// KnownBlobs lists the blobs that are known, newest first.
func (l *Layers) KnownBlobs(id digest.Digest) []KnownBlob {
	if validID(id) != nil {
		return nil
	}
	r, err := l.readBlobs(id)
	if err != nil {
		return nil
	}
	return r.Known
}

// AddKnownBlob remembers a blob and the repositories that have it. Nothing is remembered of a layer that is not in the store.
func (l *Layers) AddKnownBlob(id digest.Digest, add KnownBlob) error {
	if err := validID(id); err != nil {
		return err
	}
	lock, err := l.lock(context.Background(), id)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	r, err := l.readBlobs(id)
	if err != nil {
		return err
	}
	add.Blob = ocispec.Descriptor{MediaType: add.Blob.MediaType, Digest: add.Blob.Digest, Size: add.Blob.Size}
	if !r.addKnown(add) {
		return nil
	}
	err = l.writeBlobs(id, r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fail(id, err)
	}
	return nil
}

// addKnown puts a blob in front, with all that is known of it, and reports whether that is new.
func (r *blobRecord) addKnown(add KnownBlob) bool {
	if i := slices.IndexFunc(r.Known, func(b KnownBlob) bool { return b.Blob.Digest == add.Blob.Digest }); i >= 0 {
		old := r.Known[i]
		if i == 0 && add.Recipe == old.Recipe && len(add.Repositories) == 1 && slices.Contains(old.Repositories, add.Repositories[0]) {
			return false
		}
		for _, repository := range old.Repositories {
			if !slices.Contains(add.Repositories, repository) {
				add.Repositories = append(add.Repositories, repository)
			}
		}
		if add.Recipe == "" {
			add.Recipe = old.Recipe
		}
		r.Known = slices.Delete(r.Known, i, i+1)
	}
	add.Repositories = add.Repositories[:min(len(add.Repositories), maxRepositories)]
	r.Known = slices.Insert(r.Known, 0, add)
	r.Known = r.Known[:min(len(r.Known), maxKnown)]
	return true
}
