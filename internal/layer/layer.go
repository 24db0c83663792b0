// Package layer is the store of layers. A layer has one identity, its DiffID, two forms, blobs and a tree, and a table of contents.
//
// A layer's directory in the store is layers/<hex of its DiffID>/. It holds the table of contents (toc), the tree if the layer is
// unpacked (tree/ or tree.erofs), and the record of its blobs (blobs). It appears by the rename of a directory prepared in
// tmp/. Nothing in it is synced to disk then: damage by a power cut is found by checksums, by the hash of the tar, or by the label of an
// image (package tree), and what is damaged is made again.
package layer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/erofs"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/store"
)

// Layers is the set of layers in a store. It is safe for concurrent use, by many processes too.
type Layers struct {
	store *store.Store
	trees *tree.Host
	fetch Fetch // nil for none

	mu      sync.Mutex
	streams map[digest.Digest]int // files read out of compressed blobs
	chains  chainMemory
	// verified holds the DiffIDs whose trees this process has made or verified.
	verified sync.Map
	// summaries holds the summaries that were read, by DiffID.
	summaries sync.Map
	// digested holds the indexes of layers whose contents' digests were asked for and had to be computed, by DiffID.
	digested sync.Map
	// opened holds the images that contents were read from, by DiffID.
	opened sync.Map
	// lost counts what was taken out of the store because it was damaged.
	lost atomic.Int64
}

// New returns the layers of s.
func New(s *store.Store) *Layers {
	images := sync.OnceValue(func() bool { return mountsImages(s) })
	return &Layers{store: s, trees: tree.NewHost(images), streams: make(map[digest.Digest]int)}
}

// mountsImages reports whether trees can be images, which depends on the kernel, the store's filesystem and whether the process is
// root. With MICA_TREES=directories in the environment all trees are directories, as they are elsewhere.
func mountsImages(s *store.Store) bool {
	if os.Getenv("MICA_TREES") == "directories" {
		return false
	}
	temp, err := s.TempDir("probe")
	if err != nil {
		return false
	}
	defer func() { _ = temp.Remove() }()
	return erofs.Mountable(temp.Path)
}

// Notes returns, each once, what trees cannot represent on this host. Tables of contents are not affected.
func (l *Layers) Notes() []string { return l.trees.Notes() }

// Lost counts how often this process has taken a blob or tree out of the store because it was damaged. While it stays what it was, and
// nobody prunes, a layer that was present still is.
func (l *Layers) Lost() int64 { return l.lost.Load() }

// Form is how a new layer is written.
type Form int

// The two forms of a layer.
const (
	AsBlob Form = iota // one uncompressed tar, whose digest is the DiffID
	AsTree             // a tree
)

// Layer describes one stored layer.
type Layer struct {
	DiffID  digest.Digest
	TarSize int64 // bytes of the uncompressed tar
	Size    int64 // Docker's size of a layer: file sizes and symlink target lengths, a hardlinked file once
	Count   int   // entries: files of all types, and removals
	Empty   bool  // no entry at all
	// Blobs are the blobs in the store that hold this layer (digest, size, media type); may be empty when only unpacked.
	Blobs    []ocispec.Descriptor
	Unpacked bool
}

// Present reports whether the layer's content is there, in any form.
func (l *Layer) Present() bool { return l.Unpacked || len(l.Blobs) > 0 || l.Empty }

// The files in a layer's directory.
const (
	tocFile    = "toc"
	damagedDir = "damaged" // a tree that was set aside; trees have the names of package tree
)

// path is for those who look at the layer or make it: it holds it.
func (l *Layers) path(id digest.Digest, elem ...string) string {
	if l.store.Hold(store.HeldLayer, id) {
		l.summaries.Delete(id) // from before it was held: another process may have removed the layer since
	}
	return filepath.Join(append([]string{l.store.Path("layers"), id.Encoded()}, elem...)...)
}

// Error is an error of a layer, which it names.
type Error struct {
	DiffID digest.Digest
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("layer %s: %v", e.DiffID, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// fail names the layer in an error.
func fail(id digest.Digest, err error) error { return &Error{id, err} }

// validID guards the paths that are made of a DiffID, which may come from an image's config.
func validID(id digest.Digest) error {
	if id.Validate() != nil || id.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%q is not the digest of a layer", string(id))
	}
	return nil
}

// lock takes the lock that guards changes of a layer's directory. Readers take none.
func (l *Layers) lock(ctx context.Context, id digest.Digest) (*store.Lock, error) {
	return l.store.Lock(ctx, "layer-"+id.Encoded())
}

func (l *Layers) unpacked(id digest.Digest) bool { return tree.Find(l.path(id)) != "" }
