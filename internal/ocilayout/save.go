package ocilayout

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FileWriter writes the files of a layout, one after the other.
type FileWriter interface {
	// Add writes a file of size bytes.
	Add(name string, size int64, r io.Reader) error
}

// TarWriter writes files to a tar. The same files give the same bytes.
type TarWriter struct {
	tar  *tar.Writer
	dirs map[string]bool // that were written
}

// NewTarWriter returns a writer of a tar to w.
func NewTarWriter(w io.Writer) *TarWriter {
	return &TarWriter{tar.NewWriter(w), map[string]bool{".": true}}
}

// addParents writes the directories of a file, as docker save does.
func (t *TarWriter) addParents(name string) error {
	dir := path.Dir(name)
	if t.dirs[dir] {
		return nil
	}
	if err := t.addParents(dir); err != nil {
		return err
	}
	t.dirs[dir] = true
	h := header(dir+"/", 0)
	h.Typeflag, h.Mode = tar.TypeDir, 0o755
	return t.tar.WriteHeader(h)
}

// Add implements FileWriter.
func (t *TarWriter) Add(name string, size int64, r io.Reader) error {
	if err := t.addParents(name); err != nil {
		return err
	}
	if err := t.tar.WriteHeader(header(name, size)); err != nil {
		return err
	}
	_, err := io.Copy(t.tar, r)
	return err
}

// Close writes the end of the tar.
func (t *TarWriter) Close() error { return t.tar.Close() }

// header returns the header of a file in a tar. All files have the same time, so that the archive does not depend on it.
func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

// DirWriter writes files to a directory. A file of the same name is replaced when the new one is whole.
type DirWriter struct{ Root *os.Root }

// Add implements FileWriter.
func (d DirWriter) Add(name string, _ int64, r io.Reader) (err error) {
	if err := d.Root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	temp := name + ".new"
	f, err := d.Root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, d.Root.Remove(temp))
	}
	return d.Root.Rename(temp, name)
}

// Saved is an image for the lists of docker save.
type Saved struct {
	Descriptor ocispec.Descriptor // of the manifest or index
	// Config and Layers are those of one image of an index: docker load reads only one.
	Config ocispec.Descriptor
	Layers []ocispec.Descriptor
	Names  []string // full names
}

// File is a small file of a layout.
type File struct {
	Name string
	Data []byte
}

// List returns the files that list images: those of an image layout, and the manifest.json of docker save. They are in
// Docker's order.
func List(images []Saved) ([]File, error) {
	docker := []dockerEntry{}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, i := range images {
		docker = append(docker, newDockerEntry(i.Config, i.Layers, i.Names))
		index.Manifests = append(index.Manifests, i.indexEntries()...)
	}
	var files []File
	for _, f := range []struct {
		name  string
		value any
	}{
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{ocispec.ImageIndexFile, index},
		{dockerManifestName, docker},
	} {
		data, err := json.Marshal(f.value)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
		files = append(files, File{f.name, data})
	}
	return files, nil
}

// indexEntries returns a descriptor of the image for each name.
func (i Saved) indexEntries() []ocispec.Descriptor {
	d := i.Descriptor
	if len(i.Names) == 0 {
		return []ocispec.Descriptor{d}
	}
	var list []ocispec.Descriptor
	for _, n := range i.Names {
		named := d
		named.Annotations = map[string]string{}
		maps.Copy(named.Annotations, d.Annotations)
		named.Annotations[imageNameAnnotation] = n
		if tag := tagOf(n); tag != "" {
			named.Annotations[ocispec.AnnotationRefName] = tag
		}
		list = append(list, named)
	}
	return list
}

func newDockerEntry(config ocispec.Descriptor, layers []ocispec.Descriptor, names []string) dockerEntry {
	e := dockerEntry{Config: BlobName(config.Digest), Layers: []string{}}
	for _, n := range names {
		if named, err := reference.ParseNormalizedNamed(n); err == nil {
			e.RepoTags = append(e.RepoTags, reference.FamiliarString(named))
		}
	}
	for _, l := range layers {
		e.Layers = append(e.Layers, BlobName(l.Digest))
	}
	return e
}
