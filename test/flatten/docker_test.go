//go:build e2e

package flatten

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/archive"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/test/flatten/listing"
)

// docker is what containerd makes of a chain, and so Docker and BuildKit do: each layer is unpacked beside those below it, and all
// of them are mounted with overlayfs.
func docker(t *testing.T, c *chain) (listing.Files, error) {
	t.Helper()
	dir := t.TempDir()
	lowers := []string{filepath.Join(dir, "empty")}
	mkdir(t, lowers[0])
	for i, l := range c.layers {
		tree := filepath.Join(dir, strconv.Itoa(i))
		mkdir(t, tree)
		_, err := archive.Apply(t.Context(), tree, bytes.NewReader(l),
			archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(lowers), archive.WithFilter(quiet))
		if err != nil {
			return nil, err
		}
		lowers = slices.Insert(lowers, 0, tree)
	}
	root := filepath.Join(dir, "root")
	mkdir(t, root)
	if err := unix.Mount("overlay", root, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lowers, ":")); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(root, unix.MNT_DETACH) }()
	files, err := listing.Walk(root, func(name string) bool { return strings.HasPrefix(name, ".wh.") })
	if err != nil {
		t.Fatal(err)
	}
	return files, nil
}

// takeUserXattrs are the types that have attributes of every kind.
const takeUserXattrs = string(tar.TypeReg) + string(tar.TypeDir) + string(tar.TypeLink)

// quiet takes out of a header the attributes that containerd would pass over with a warning on stderr.
func quiet(h *tar.Header) (bool, error) {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.trusted.") || !strings.ContainsRune(takeUserXattrs, rune(h.Typeflag)) {
			delete(h.PAXRecords, key)
		}
	}
	return true, nil
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// common leaves out what differs for good reasons: times of directories, which are those of the unpacking where a layer has no
// entry; attributes that mica takes for overlayfs's own or containerd does not set; and names that containerd's mount
// lists though they are removed.
func common(files listing.Files) []string {
	kept := slices.DeleteFunc(files, func(f *listing.File) bool { return f.Error != "" })
	for _, f := range kept {
		if f.Type == '5' {
			f.Seconds, f.Nanos = 0, 0
		}
		for name := range f.Xattrs {
			if strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "user.overlay.") {
				delete(f.Xattrs, name)
			}
		}
		if len(f.Xattrs) == 0 {
			f.Xattrs = nil
		}
	}
	return kept.Lines()
}
