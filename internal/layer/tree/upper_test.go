package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// date gives all files beneath a directory one time.
func date(t *testing.T, root string, at time.Time) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		times := timesOf(&view.Entry{ModTime: at})
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, times[:], unix.AT_SYMLINK_NOFOLLOW))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// viewOf is a view of a tree whose files contain their names.
func viewOf(t *testing.T, h *Host, root string) view.View {
	t.Helper()
	tree, err := h.OpenDirectory(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	entries, err := tree.Walk(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := view.NewIndex(nil, len(entries))
	for _, e := range entries {
		e.Digest = digest.FromString(e.Path)
		x.Put(e, 0)
	}
	return x.Freeze()
}

// TestOpenUpper: what was copied up and is as before is no part of the layer.
func TestOpenUpper(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			err := unix.Lsetxattr(filepath.Join(root, "d"), name, []byte(value), 0)
			if errors.Is(err, unix.ENOTSUP) {
				t.Skip("the filesystem of the temporary directory has no attributes")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	opaque := set("user.overlay.opaque", "y")
	do := func(f func(root string) error) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			if err := f(root); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		lower, upper []string
		change       func(*testing.T, string)
		want         []string
	}{
		"new":                    {nil, []string{"d/", "d/f", "l>d"}, nil, []string{"d", "d/f", "l"}},
		"same":                   {[]string{"f", "l>f"}, []string{"f", "l>f"}, nil, nil},
		"same, of a new time":    {[]string{"f"}, []string{"f"}, do(func(root string) error { return os.Chtimes(filepath.Join(root, "f"), time.Time{}, time.Unix(1, 1)) }), []string{"f"}},
		"other mode":             {[]string{"f"}, []string{"f"}, do(func(root string) error { return os.Chmod(filepath.Join(root, "f"), 0o640) }), []string{"f"}},
		"other link":             {[]string{"l>f"}, []string{"l>g"}, nil, []string{"l"}},
		"other type":             {[]string{"f/", "f/g"}, []string{"f"}, nil, []string{"f"}},
		"directory for a file":   {[]string{"d"}, []string{"d/", "d/f"}, opaque, []string{"d", "d/f"}},
		"a file is left":         {[]string{"d/", "d/f", "d/g"}, []string{"d/", "d/f", "d/h"}, nil, []string{"d", "d/h"}},
		"nothing is left":        {[]string{"d/", "d/e/", "d/e/f"}, []string{"d/", "d/e/", "d/e/f"}, nil, nil},
		"attribute":              {[]string{"d/"}, []string{"d/"}, set("user.a", "1"), []string{"d"}},
		"other content":          {[]string{"f"}, []string{"f"}, do(func(root string) error { return rewrite(filepath.Join(root, "f"), "g") }), []string{"f"}},
		"links":                  {[]string{"f"}, []string{"f"}, do(func(root string) error { return os.Link(filepath.Join(root, "f"), filepath.Join(root, "g")) }), []string{"f", "g"}},
		"removed":                {[]string{"f"}, nil, do(func(root string) error { return unix.Mknod(filepath.Join(root, "f"), unix.S_IFCHR, 0) }), []string{"f -"}},
		"removed, was not there": {nil, nil, do(func(root string) error { return unix.Mknod(filepath.Join(root, "f"), unix.S_IFCHR, 0) }), nil},
		"made again":             {[]string{"d/", "d/e/", "d/e/f", "d/g"}, []string{"d/", "d/h"}, opaque, []string{"d", "d/e -", "d/g -", "d/h"}},
		"made again, the same":   {[]string{"d/", "d/e/", "d/e/f"}, []string{"d/", "d/e/", "d/e/f"}, opaque, nil},
		"made again beneath":     {[]string{"d/", "d/e/", "d/e/f", "d/e/g/", "d/e/g/h"}, []string{"d/", "d/e/", "d/e/g/"}, opaque, []string{"d", "d/e", "d/e/f -", "d/e/g", "d/e/g/h -"}},
		"made, marked opaque":    {nil, []string{"d/"}, opaque, []string{"d"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := nestedHost(true)
			lower, upper := makeTree(t, c.lower...), makeTree(t, c.upper...)
			date(t, lower, testTime)
			date(t, upper, testTime)
			if c.change != nil {
				c.change(t, upper)
			}
			if err := os.Chtimes(upper, time.Time{}, testTime); err != nil {
				t.Fatal(err)
			}
			tree, err := h.OpenUpper(t.Context(), upper, viewOf(t, h, lower))
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			told, err := tree.Walk(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, lines(told)); diff != "" {
				t.Error(diff)
			}
			// A walk of what is there, with times and attributes, gives the same.
			again, err := h.OpenDirectory(upper)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			found, err := again.Walk(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(found, told); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// rewrite changes the content of a file and keeps its time.
func rewrite(file, data string) error {
	return errors.Join(os.WriteFile(file, []byte(data), 0o600), os.Chtimes(file, testTime, testTime))
}

// lines are paths, whiteouts with a minus.
func lines(entries []*view.Entry) []string {
	var out []string
	for _, e := range entries {
		line := e.Path
		if e.Type == view.TypeWhiteout {
			line += " -"
		}
		if e.Opaque {
			line += " opaque"
		}
		out = append(out, line)
	}
	return slices.Clip(out)
}
