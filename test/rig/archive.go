package rig

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
)

// Image is an image to put in an archive, every byte of it chosen.
type Image struct {
	Names  []string
	Config map[string]any // "rootfs" is added
	Layers [][]byte       // tars
}

// Layer is a tar of the given files.
func Layer(t testing.TB, files ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range files {
		content := bytes.Repeat([]byte("x"), int(h.Size))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// WriteArchive writes images as docker save does.
func WriteArchive(t testing.TB, out io.Writer, images ...Image) {
	t.Helper()
	w := tar.NewWriter(out)
	done := map[string]bool{}
	write := func(name string, data []byte) {
		if done[name] {
			return
		}
		done[name] = true
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	for _, img := range images {
		e := entry{RepoTags: img.Names}
		diffIDs := []string{}
		for _, l := range img.Layers {
			sum := Sum(l)
			diffIDs = append(diffIDs, "sha256:"+sum)
			e.Layers = append(e.Layers, sum+"/layer.tar")
			write(sum+"/layer.tar", l)
		}
		img.Config["rootfs"] = map[string]any{"type": "layers", "diff_ids": diffIDs}
		config, err := json.Marshal(img.Config)
		if err != nil {
			t.Fatal(err)
		}
		e.Config = Sum(config) + ".json"
		write(e.Config, config)
		manifest = append(manifest, e)
	}
	data, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	write("manifest.json", data)
	if err := w.Close(); err != nil {
		t.Fatal(fmt.Errorf("write archive: %w", err))
	}
}

// Sum is a sha256 in hexadecimal.
func Sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// LayerOf is a tar of files with the given contents.
func LayerOf(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(files[name])), Mode: 0o644}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
