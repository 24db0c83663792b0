// Package compare reads images out of OCI archives, independently of mica's own code, and says how two differ.
package compare

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// File is everything about one path of an image.
type File struct {
	Type     byte
	Mode     int64
	UID, GID int
	Size     int64
	Sum      string // sha256 of the content
	Text     string // the content, where it is short
	Link     string // of a symlink
	Major    int64
	Minor    int64
	Xattrs   map[string]string
	ModTime  time.Time
	// Same is the first path, in the order of names, that is the same file by a hard link; "" when there is none.
	Same string
}

// Image is an image as its users see it.
type Image struct {
	Config map[string]any
	// Files are the merged filesystem by path.
	Files  map[string]*File
	Layers int
	// Annotations are those of the manifest, and Notes the names of those that each layer has, without BuildKit's own.
	Annotations map[string]string
	Notes       [][]string
}

// Index is what an archive holds: an image, or one for each of several platforms.
type Index struct {
	// Several is set where the archive has an index of images.
	Several     bool
	Annotations map[string]string
	// Root is what index.json says of it, but for its names, its time and the registry where BuildKit's containerd got it.
	Root map[string]string
	// Images by platform, and the annotations that the index gives them; "" for the only one.
	Images      map[string]*Image
	Descriptors map[string]map[string]string
	// Statements are the attestations that the index has, of all platforms.
	Statements []Statement
}

// Statement is an attestation (in-toto).
type Statement struct {
	Type          string `json:"_type"`
	PredicateType string
	Subject       []any
	Predicate     map[string]any
}

// Read reads the only image of an OCI archive.
func Read(archive string) (*Image, error) {
	index, err := ReadIndex(archive)
	if err != nil {
		return nil, err
	}
	if index.Several {
		return nil, fmt.Errorf("%s: it has an index", archive)
	}
	return index.Images[""], nil
}

// ReadIndex reads all images of an OCI archive, and what is attested of them.
func ReadIndex(archive string) (*Index, error) {
	blobs, err := readBlobs(archive)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	var top document
	if err := json.Unmarshal(blobs["index.json"], &top); err != nil {
		return nil, fmt.Errorf("%s: index.json: %w", archive, err)
	}
	if len(top.Manifests) != 1 {
		return nil, fmt.Errorf("%s: %d manifests", archive, len(top.Manifests))
	}
	var root document
	if err := json.Unmarshal(blobs[top.Manifests[0].file()], &root); err != nil {
		return nil, fmt.Errorf("%s: manifest: %w", archive, err)
	}
	x := &Index{Several: len(root.Manifests) > 0, Root: map[string]string{}, Images: map[string]*Image{}, Descriptors: map[string]map[string]string{}}
	for k, v := range top.Manifests[0].Annotations {
		known := func(prefix string) bool { return strings.HasPrefix(k, prefix) }
		if !slices.ContainsFunc([]string{"io.containerd.", "org.opencontainers.image.", "containerd.io/distribution.source."}, known) {
			x.Root[k] = v
		}
	}
	if !x.Several {
		x.Images[""], err = readImage(blobs, top.Manifests[0])
		return x, err
	}
	x.Annotations = root.Annotations
	for _, d := range root.Manifests {
		if d.Platform.OS == "unknown" {
			if err := x.readStatements(blobs, d); err != nil {
				return nil, fmt.Errorf("%s: attestation: %w", archive, err)
			}
			continue
		}
		name := path.Join(d.Platform.OS, d.Platform.Architecture, d.Platform.Variant)
		x.Descriptors[name] = d.Annotations
		if x.Images[name], err = readImage(blobs, d); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", archive, name, err)
		}
	}
	return x, nil
}

func (x *Index) readStatements(blobs map[string][]byte, d descriptor) error {
	var manifest document
	if err := json.Unmarshal(blobs[d.file()], &manifest); err != nil {
		return err
	}
	for _, l := range manifest.Layers {
		var s Statement
		if err := json.Unmarshal(blobs[l.file()], &s); err != nil {
			return err
		}
		if l.Annotations["in-toto.io/predicate-type"] != s.PredicateType {
			return fmt.Errorf("layer %s does not say that it is %s", l.Digest, s.PredicateType)
		}
		x.Statements = append(x.Statements, s)
	}
	return nil
}

// document is a manifest or an index.
type document struct {
	Annotations map[string]string
	Manifests   []descriptor
	Config      descriptor
	Layers      []descriptor
}

func readImage(blobs map[string][]byte, d descriptor) (*Image, error) {
	var manifest document
	if err := json.Unmarshal(blobs[d.file()], &manifest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	img := &Image{Files: map[string]*File{}, Layers: len(manifest.Layers), Annotations: manifest.Annotations}
	if err := json.Unmarshal(blobs[manifest.Config.file()], &img.Config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	for i, l := range manifest.Layers {
		if err := img.apply(blobs[l.file()]); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		notes := slices.Sorted(maps.Keys(l.Annotations))
		img.Notes = append(img.Notes, slices.DeleteFunc(notes, func(n string) bool { return strings.HasPrefix(n, "buildkit/") }))
	}
	img.nameLinks()
	return img, nil
}

type descriptor struct {
	Digest      string
	Annotations map[string]string
	Platform    struct{ OS, Architecture, Variant string }
}

func (d descriptor) file() string { return "blobs/" + strings.Replace(d.Digest, ":", "/", 1) }

func readBlobs(archive string) (map[string][]byte, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	blobs := map[string][]byte{}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return blobs, nil
		}
		if err != nil {
			return nil, err
		}
		if blobs[path.Clean(h.Name)], err = io.ReadAll(tr); err != nil {
			return nil, err
		}
	}
}

// apply puts a layer over what is there (OCI image specification, layer.md, "Applying Changesets").
func (img *Image) apply(blob []byte) error {
	var in io.Reader = bytes.NewReader(blob)
	switch {
	case bytes.HasPrefix(blob, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		in = z
	case bytes.HasPrefix(blob, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in)
		if err != nil {
			return err
		}
		defer z.Close()
		in = z
	}
	var added []string
	for tr := tar.NewReader(in); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean("/" + h.Name)
		dir, base := path.Split(name)
		switch {
		case base == ".wh..wh..opq":
			img.remove(dir, added)
		case strings.HasPrefix(base, ".wh."):
			gone := dir + strings.TrimPrefix(base, ".wh.")
			delete(img.Files, gone)
			img.remove(gone+"/", nil)
		default:
			if err := img.add(name, h, tr); err != nil {
				return err
			}
			added = append(added, name)
		}
	}
}

// remove removes what is below a directory, but for what the layer itself has put there.
func (img *Image) remove(below string, keep []string) {
	for p := range img.Files {
		if !strings.HasPrefix(p, below) || p+"/" == below {
			continue
		}
		kept := false
		for _, k := range keep {
			kept = kept || k == p
		}
		if !kept {
			delete(img.Files, p)
		}
	}
}

func (img *Image) add(name string, h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeLink {
		target, ok := img.Files[path.Clean("/"+h.Linkname)]
		if !ok {
			return fmt.Errorf("%s: linked to %s, which is missing", name, h.Linkname)
		}
		img.Files[name] = target
		return nil
	}
	f := &File{
		Type: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, Size: h.Size, Link: h.Linkname,
		Major: h.Devmajor, Minor: h.Devminor, ModTime: h.ModTime, Xattrs: map[string]string{},
	}
	for k, v := range h.PAXRecords {
		if x, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			f.Xattrs[x] = v
		}
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		sum := sha256.Sum256(data)
		f.Sum = hex.EncodeToString(sum[:])
	}
	if len(data) < 2000 {
		f.Text = string(data)
	}
	if f.Type != tar.TypeDir {
		img.remove(name+"/", nil)
	}
	img.Files[name] = f
	return nil
}

// nameLinks sets Same of all files that have several names.
func (img *Image) nameLinks() {
	first := map[*File]string{}
	count := map[*File]int{}
	for p, f := range img.Files {
		count[f]++
		if at, ok := first[f]; !ok || p < at {
			first[f] = p
		}
	}
	for f, at := range first {
		if count[f] > 1 {
			f.Same = at
		}
	}
}
