package view

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/quota"
)

// sparseArchive holds one sparse file in GNU tar's pax format 1.0, with a few bytes of data at its end.
func sparseArchive(t testing.TB, size int64) []byte {
	t.Helper()
	list := fmt.Sprintf("1\n%d\n4\n", size-4) // how many pieces have data; where each begins, and its length
	body := list + strings.Repeat("\x00", 512-len(list)) + "tail"
	plain := archive(t, archived("holes", tar.TypeReg, func(h *tar.Header) {
		h.PAXRecords = map[string]string{
			"MICA.data": body, "XXX.sparse.major": "1", "XXX.sparse.minor": "0",
			"XXX.sparse.name": "holes", "XXX.sparse.realsize": fmt.Sprint(size),
		}
	}), archived("after", tar.TypeReg))
	return bytes.ReplaceAll(plain, []byte("XXX.sparse."), []byte("GNU.sparse.")) // which the package does not write
}

// onDisk is how many bytes the files in a directory take.
func onDisk(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUnpackLeavesHoles(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	zeros := archive(t, archived("zeros", tar.TypeReg, data(strings.Repeat("\x00", size))))
	for name, plain := range map[string][]byte{"sparse": sparseArchive(t, size), "zeros": zeros} {
		temp := t.TempDir()
		o := begin()
		if err := addBy(t, o, compressed(t, compression.Gzip, plain), nil, temp); err != nil {
			t.Fatal(err)
		}
		if n := onDisk(t, temp); n > size/16 {
			t.Errorf("%s: %d bytes on disk", name, n)
		}
		if name == "sparse" {
			checkTail(t, o, size)
		}
	}
}

// checkTail reads the sparse file, and the one behind it.
func checkTail(t *testing.T, o *Overlay, size int64) {
	t.Helper()
	f, err := o.Open(t.Context(), "d/holes")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	hole, err := io.CopyN(io.Discard, f, size-4)
	tail, tailErr := io.ReadAll(f)
	if err := errors.Join(err, tailErr); err != nil || hole != size-4 || string(tail) != "tail" {
		t.Errorf("%d bytes, then %q: %v", hole, tail, err)
	}
	if got := slurp(t, o, "d/after"); got != "data of after" {
		t.Errorf("the file behind it is %q", got)
	}
}

func slurp(t *testing.T, v View, name string) string {
	t.Helper()
	f, err := v.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	all, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

func TestUnpackIsLimited(t *testing.T) {
	t.Setenv(quota.Setting, "10m")
	for name, packed := range map[string][]byte{
		"a sparse file of a TiB": sparseArchive(t, 1<<40),
		"one of 11 MiB":          sparseArchive(t, 11<<20),
		"zeros":                  compressed(t, compression.Zstd, append(archive(t, archived("a", tar.TypeReg)), make([]byte, 12<<20)...)),
	} {
		temp := t.TempDir()
		err := addBy(t, begin(), packed, nil, temp)
		if !errors.Is(err, quota.ErrExceeded) || !strings.Contains(err.Error(), "extract /x.tar: it") {
			t.Errorf("%s: %v", name, err)
		}
		if n := onDisk(t, temp); n > 1<<20 {
			t.Errorf("%s: %d bytes on disk", name, n)
		}
	}
}
