package layer

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blobRecord is the record of a layer's blobs, in its directory.
type blobRecord struct {
	// Stored are the blobs that hold the layer here, in the order in which they came. Some may be gone.
	Stored []ocispec.Descriptor `json:"stored,omitempty"`
	// Known are blobs that can be made or fetched, newest first.
	Known []KnownBlob `json:"known,omitempty"`
}

// The files of blobRecord. Earlier versions had two.
const (
	blobsFile      = "blobs"
	oldStoredFile  = "packs"
	oldKnownFile   = "sources"
	newBlobsSuffix = ".new"
)

// readBlobs reads the record of a layer's blobs. One that cannot be decoded is an empty one: it is written again with the next blob
// that comes.
func (l *Layers) readBlobs(id digest.Digest) (blobRecord, error) {
	var r blobRecord
	data, err := os.ReadFile(l.path(id, blobsFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = l.readOldBlobs(id)
	case err != nil:
		return r, fail(id, err)
	case json.Unmarshal(data, &r) != nil:
		return blobRecord{}, nil //nolint:nilerr // see above
	}
	r.Known = slices.DeleteFunc(r.Known, func(b KnownBlob) bool { return validID(b.Blob.Digest) != nil || b.Blob.Size < 0 })
	return r, nil
}

// readOldBlobs reads the files of earlier versions, which a layer has until its record is written.
func (l *Layers) readOldBlobs(id digest.Digest) (r blobRecord) {
	if data, err := os.ReadFile(l.path(id, oldStoredFile)); err != nil || json.Unmarshal(data, &r.Stored) != nil {
		r.Stored = nil
	}
	var known []struct {
		Pack ocispec.Descriptor `json:"pack"`
		KnownBlob
	}
	if data, err := os.ReadFile(l.path(id, oldKnownFile)); err != nil || json.Unmarshal(data, &known) != nil {
		return r
	}
	for _, k := range known {
		k.Blob = k.Pack
		r.Known = append(r.Known, k.KnownBlob)
	}
	return r
}

// writeBlobs replaces the record of a layer's blobs. The caller holds the layer's lock.
func (l *Layers) writeBlobs(id digest.Digest, r blobRecord) error {
	if err := r.write(l.path(id, blobsFile+newBlobsSuffix)); err != nil {
		return err
	}
	if err := os.Rename(l.path(id, blobsFile+newBlobsSuffix), l.path(id, blobsFile)); err != nil {
		return err
	}
	for _, name := range []string{oldStoredFile, oldKnownFile} {
		if err := os.Remove(l.path(id, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r blobRecord) write(path string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// writeDraft writes the record of a layer that is being made, if it has blobs.
func (r blobRecord) writeDraft(dir string) error {
	if len(r.Stored) == 0 {
		return nil
	}
	return r.write(filepath.Join(dir, blobsFile))
}

// Blobs returns the blobs of a layer that are in the store, whatever else of the layer is damaged.
func (l *Layers) Blobs(id digest.Digest) ([]ocispec.Descriptor, error) {
	if err := validID(id); err != nil {
		return nil, err
	}
	return l.blobs(id)
}

// blobs returns the blobs that hold the layer and are in the store.
func (l *Layers) blobs(id digest.Digest) ([]ocispec.Descriptor, error) {
	r, err := l.readBlobs(id)
	if err != nil {
		return nil, err
	}
	return l.present(r.Stored), nil
}

// present returns those blobs that are in the store.
func (l *Layers) present(blobs []ocispec.Descriptor) (here []ocispec.Descriptor) {
	for _, d := range blobs {
		if size, err := l.store.StatBlob(d.Digest); err == nil && size == d.Size {
			here = append(here, d)
		}
	}
	return here
}

// addBlobs adds to the blobs that hold the layer. The caller holds the layer's lock.
func (l *Layers) addBlobs(id digest.Digest, add []ocispec.Descriptor) error {
	r, err := l.readBlobs(id)
	if err != nil {
		return err
	}
	r.Stored = l.present(r.Stored)
	n := len(r.Stored)
	for _, d := range add {
		if !holds(r.Stored, d.Digest) {
			r.Stored = append(r.Stored, d)
		}
	}
	if len(r.Stored) == n {
		return nil
	}
	return l.writeBlobs(id, r)
}

func holds(blobs []ocispec.Descriptor, d digest.Digest) bool {
	return slices.ContainsFunc(blobs, func(b ocispec.Descriptor) bool { return b.Digest == d })
}
