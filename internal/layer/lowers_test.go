package layer

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/view"
)

// TestRootLowers: a chain gets a cover where one is needed, of the directories that need it and those above, and else none.
func TestRootLowers(t *testing.T) {
	base := []tar.Header{{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750}, {Name: "d/tmp", Typeflag: tar.TypeDir, Mode: 0o1777}, {Name: "e", Typeflag: tar.TypeDir, Mode: 0o755}}
	for name, tt := range map[string]struct {
		layers [][]tar.Header
		trees  int
		want   string
	}{
		"every directory has an entry": {[][]tar.Header{base, {base[0], base[1], fileMember("d/tmp/f")}}, 2, ""},
		"one lacks it":                 {[][]tar.Header{base, {fileMember("d/tmp/f")}}, 2, "d 750 d/tmp 1777"},
		"one had it in between":        {[][]tar.Header{base, {fileMember("d/tmp/f")}, {{Name: "d/tmp", Typeflag: tar.TypeDir, Mode: 0o700}}}, 3, "d 750"},
		"one that is nowhere below":    {[][]tar.Header{base, {fileMember("x/y/f")}}, 2, ""},
		"one that is gone":             {[][]tar.Header{base, {fileMember("e/f")}, {fileMember(".wh.e")}}, 3, ""},
		"the same layer again":         {[][]tar.Header{base, base}, 1, ""},
		"a removal that is merged":     {[][]tar.Header{base, {base[2], fileMember("e/.wh.f")}}, 2, ""},
		"a removal that is not":        {[][]tar.Header{{base[2], fileMember("e/.wh.f")}}, 1, "e 755"},
		"an opaque root":               {[][]tar.Header{base, {fileMember("d/f"), fileMember(".wh..wh..opq")}, {fileMember("g")}}, 2, ""},
	} {
		for _, l := range []*Layers{inDirectories(newLayers(t)), asErofs(newLayers(t))} {
			dir := filepath.Join(t.TempDir(), "new")
			lowers, err := l.Lowers(t.Context(), ingestChain(t, l, tt.layers...), dir)
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			if n := len(lowers) - 1; lowers[n] == filepath.Join(dir, coverDir) {
				for _, e := range walkTree(t, lowers[n]) {
					have = append(have, fmt.Sprintf("%s %o", e.Path, e.Mode))
				}
				lowers = lowers[:n]
			} else if _, err := os.Lstat(dir); err == nil {
				t.Errorf("%s: %s is made for nothing", name, dir)
			}
			if got := strings.Join(have, " "); got != tt.want || len(lowers) != tt.trees {
				t.Errorf("%s: %d trees and %q, want %d and %q", name, len(lowers), got, tt.trees, tt.want)
			}
		}
	}
}

func walkTree(t *testing.T, path string) []*view.Entry {
	t.Helper()
	d, err := tree.NewHost(nil).OpenDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	entries, err := d.Walk(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// BenchmarkLowers is what a chain costs of which every tree is there: one of plain layers, and one of which the upper layer leaves
// directories out and removes files.
func BenchmarkLowers(b *testing.B) {
	for name, upper := range map[string][]tar.Header{
		"plain": {{Name: "d0001", Typeflag: tar.TypeDir, Mode: 0o755}, fileMember("d0001/f")},
		"odd":   {fileMember("d0001/f"), fileMember("d0002/.wh.f01"), fileMember("d0003/sub/f")},
	} {
		b.Run(name, func(b *testing.B) {
			l := inDirectories(newLayers(b))
			base := write(b, l, manyChanges(benchFiles, 1), AsTree)
			chain := append([]digest.Digest{base.DiffID}, ingestChain(b, l, upper)...)
			dir := b.TempDir()
			for i := 0; b.Loop(); i++ {
				if _, err := l.Lowers(b.Context(), chain, filepath.Join(dir, fmt.Sprint(i))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
