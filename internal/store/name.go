package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Name points at an image's manifest. There are two kinds, in two directories: names that users gave
// ("docker.io/library/nginx:latest"), and records, named by the image's ID (the digest of its config), which retain an image
// that has no name.
type Name struct {
	Ref    string             `json:"ref"`
	Target ocispec.Descriptor `json:"target"`
	// Images are the IDs of the images that Target describes, the one for this host first. If it is empty, the image is that
	// whose record points at Target.
	Images []digest.Digest `json:"images,omitempty"`
	// Updated is when the name was last given: what the file says, or when it was last modified, whichever is later.
	Updated time.Time `json:"updated"`
}

// Refs is a directory of Name files.
type Refs struct {
	s   *Store
	dir string
}

// Names are the names that users gave.
func (s *Store) Names() *Refs { return &Refs{s, "refs/names"} }

// Records are the records of all images, each named by the image's ID.
func (s *Store) Records() *Refs { return &Refs{s, "refs/images"} }

func (n *Refs) path(ref string) string { return n.s.Path(n.dir, FileName(ref)) }

// maxFileName is the length of a file name that every Linux filesystem allows (NAME_MAX), less room for suffixes.
const maxFileName = 240

// FileName returns the name of the file for an image's name: the name in percent-encoding, or a hash of it if that is too long.
// No encoded name of an image begins with "~".
func FileName(ref string) string {
	if name := url.PathEscape(ref); len(name) <= maxFileName {
		return name
	}
	return "~" + digest.FromString(ref).Encoded()
}

// Get returns the name ref, ErrNotFound, or ErrDamaged.
func (n *Refs) Get(ref string) (Name, error) {
	name, err := readName(n.path(ref))
	if errors.Is(err, fs.ErrNotExist) {
		return Name{}, fmt.Errorf("name %s: %w", ref, ErrNotFound)
	}
	return name, err
}

func readName(path string) (Name, error) {
	file := filepath.Base(path)
	ref, err := url.PathUnescape(file)
	if err != nil {
		return Name{}, fmt.Errorf("name file %s is %w", file, ErrDamaged)
	}
	data, modified, err := readDated(path)
	if err != nil {
		return Name{}, err
	}
	var name Name
	if err := json.Unmarshal(data, &name); err != nil || FileName(name.Ref) != file || validDigest(name.Target.Digest) != nil ||
		slices.ContainsFunc(name.Images, func(id digest.Digest) bool { return validDigest(id) != nil }) {
		return Name{}, fmt.Errorf("name %s is %w: remove it or set it again", ref, ErrDamaged)
	}
	if modified.After(name.Updated) {
		name.Updated = modified.UTC()
	}
	return name, nil
}

// readDated returns the content of a file and when it was modified.
func readDated(path string) (data []byte, modified time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, modified, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, modified, err
	}
	data = make([]byte, info.Size())
	_, err = io.ReadFull(f, data)
	return data, info.ModTime(), err
}

// Set points ref at target. images are the IDs of the images that target describes: see Name. A name that points there already is not written again, and
// so need not reach the disk: it is only dated.
func (n *Refs) Set(ref string, target ocispec.Descriptor, images ...digest.Digest) error {
	for _, d := range append([]digest.Digest{target.Digest}, images...) {
		if err := validDigest(d); err != nil {
			return err
		}
	}
	now := time.Now()
	if old, err := n.Get(ref); err == nil && slices.Equal(old.Images, images) && reflect.DeepEqual(old.Target, target) &&
		os.Chtimes(n.path(ref), now, now) == nil {
		return nil
	}
	data, err := json.Marshal(Name{ref, target, images, now.UTC()})
	if err == nil {
		err = n.s.WriteFileAtomic(n.path(ref), data)
	}
	if err != nil {
		return fmt.Errorf("write name %s: %w", ref, err)
	}
	return nil
}

// Remove removes ref. A missing name is not an error.
func (n *Refs) Remove(ref string) error {
	if err := os.Remove(n.path(ref)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove name %s: %w", ref, err)
	}
	return nil
}

// List returns all names, sorted. The error names those that are damaged; the others are returned with it.
func (n *Refs) List() ([]Name, error) { return n.list(readName) }

func (n *Refs) list(read func(path string) (Name, error)) ([]Name, error) {
	entries, err := os.ReadDir(n.s.Path(n.dir))
	if err != nil {
		return nil, fmt.Errorf("list names: %w", err)
	}
	list, errs := make([]Name, len(entries)), make([]error, len(entries))
	var wg sync.WaitGroup
	const workers = 4
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(entries); i += workers {
				list[i], errs[i] = read(n.s.Path(n.dir, entries[i].Name()))
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, fs.ErrNotExist) { // removed since the directory was read
			errs[i] = nil
		}
	}
	list = slices.DeleteFunc(list, func(n Name) bool { return n.Ref == "" })
	slices.SortFunc(list, func(a, b Name) int { return strings.Compare(a.Ref, b.Ref) })
	return list, errors.Join(errs...)
}
