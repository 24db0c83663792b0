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
	"os"
	"path"
	"strings"
	"time"
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
}

// Read reads the only image of an OCI archive.
func Read(archive string) (*Image, error) {
	blobs, err := readBlobs(archive)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	var index struct{ Manifests []descriptor }
	if err := json.Unmarshal(blobs["index.json"], &index); err != nil {
		return nil, fmt.Errorf("%s: index.json: %w", archive, err)
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("%s: %d manifests", archive, len(index.Manifests))
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	if err := json.Unmarshal(blobs[index.Manifests[0].file()], &manifest); err != nil {
		return nil, fmt.Errorf("%s: manifest: %w", archive, err)
	}
	img := &Image{Files: map[string]*File{}, Layers: len(manifest.Layers)}
	if err := json.Unmarshal(blobs[manifest.Config.file()], &img.Config); err != nil {
		return nil, fmt.Errorf("%s: config: %w", archive, err)
	}
	for i, l := range manifest.Layers {
		if err := img.apply(blobs[l.file()]); err != nil {
			return nil, fmt.Errorf("%s: layer %d: %w", archive, i, err)
		}
	}
	img.nameLinks()
	return img, nil
}

type descriptor struct{ Digest string }

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
	if bytes.HasPrefix(blob, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
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

// remove removes what is below a folder, but for what the layer itself has put there.
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
