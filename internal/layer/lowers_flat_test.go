package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestLowersOfManyLayers: overlayfs stacks 500 directories. Of a longer chain the lowest layers are one tree, made once.
func TestLowersOfManyLayers(t *testing.T) {
	l := inDirectories(newLayers(t))
	dir := tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o1777}
	layers := [][]tar.Header{{dir, fileMember("d/gone"), fileMember("d/hidden")}}
	for i := range maxTrees {
		layers = append(layers, []tar.Header{dir, fileMember(fmt.Sprintf("d/f%d", i))})
	}
	layers[1] = append(layers[1], fileMember("d/.wh.gone"))
	layers[maxTrees] = []tar.Header{fileMember("d/.wh.hidden"), fileMember("d/last")}
	chain := ingestChain(t, l, layers...)
	lowers := lowersOf(t, l, chain)
	if len(lowers) != 3 { // all but the last layer, that, and a cover for d, which that does not describe
		t.Fatalf("%d lower directories: %q", len(lowers), lowers)
	}
	var names []string
	for _, e := range walkTree(t, lowers[0]) {
		names = append(names, e.Path)
	}
	if slices.Contains(names, "d/gone") || !slices.Contains(names, "d/hidden") || len(names) != 1+maxTrees {
		t.Errorf("the lowest directory has %d files: %q", len(names), names)
	}
	if info, err := os.Stat(filepath.Join(lowers[2], "d")); err != nil || info.Mode().Perm() != 0o777 || info.Mode()&fs.ModeSticky == 0 {
		t.Errorf("the cover's directory: %v, %v", info, err)
	}
	again := lowersOf(t, l, ingestChain(t, l, append(layers, []tar.Header{fileMember("more")})...))
	if again[0] != lowers[0] || len(again) != 4 {
		t.Errorf("a longer chain has %q above %q, want what the shorter has", again[1:], again[0])
	}

	w, err := l.store.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := l.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range all {
		if !slices.Contains(chain, id) {
			err = errors.Join(err, l.Discard(w, id))
		}
	}
	_, endErr := w.End(t.Context())
	if err := errors.Join(err, endErr, l.ForgetFlattened()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(lowers[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a prune leaves the joined layers: %v", err)
	}
	if again := lowersOf(t, l, chain); again[0] != lowers[0] {
		t.Errorf("after a prune %q, want it made again", again[0])
	}
}

func lowersOf(t *testing.T, l *Layers, chain []digest.Digest) []string {
	t.Helper()
	lowers, err := l.Lowers(t.Context(), chain, filepath.Join(t.TempDir(), "new"))
	if err != nil {
		t.Fatal(err)
	}
	return lowers
}
