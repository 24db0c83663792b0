package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/quota"
)

// sparseTar has GNU tar archive a file of size bytes that has data in some places only, after one that fills no block.
func sparseTar(t testing.TB, size int64, places int, format ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "before"), []byte("no multiple of 512"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(places) {
		if _, err := f.WriteAt([]byte("some data"), i*(size/int64(places))+5000); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tar", append(format, "-C", dir, "--sparse", "-cf", "-", "before", "holes")...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if len(out) > 1<<20 {
		t.Fatalf("tar of %d bytes: the filesystem has no holes", len(out))
	}
	return out
}

var sparseFormats = map[string][]string{
	"gnu": {"--format=gnu"}, "pax 0.0": {"--format=pax", "--sparse-version=0.0"},
	"pax 0.1": {"--format=pax", "--sparse-version=0.1"}, "pax 1.0": {"--format=pax", "--sparse-version=1.0"},
}

// onDisk is how many bytes a store takes.
func onDisk(t *testing.T, l *Layers) (n int64) {
	t.Helper()
	err := filepath.WalkDir(l.store.Path(), func(_ string, e fs.DirEntry, err error) error {
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

// TestRootSparseFilesStayHoles ingests sparse files of each format, with a tree at once and later, in either form.
func TestRootSparseFilesStayHoles(t *testing.T) {
	const size = 16 << 20
	for name, format := range sparseFormats {
		for _, places := range []int{1, 200} { // 200 need extension headers
			packed := sparseTar(t, size, places, format...)
			for form, in := range map[string]func(*Layers) *Layers{"directory": inDirectories, "erofs": asErofs} {
				l := in(newLayers(t))
				got, _, err := l.IngestFrom(t.Context(), Incoming{Reader: bytes.NewReader(packed), Unpack: true})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if _, err := l.Tree(t.Context(), got.DiffID); err != nil {
					t.Fatalf("%s, %s: %v", name, form, err)
				}
				checkHoles(t, l, got.DiffID, size, places)
				if n := onDisk(t, l); n > 3<<20 {
					t.Errorf("%s with %d places, %s: %d bytes on disk", name, places, form, n)
				}
			}
		}
	}
}

// checkHoles reads the sparse file from the tree.
func checkHoles(t *testing.T, l *Layers, id digest.Digest, size int64, places int) {
	t.Helper()
	stored, err := l.trees.Open(l.path(id))
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	f, err := stored.Open("holes")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got, want := sha256.New(), sha256.New()
	n, err := io.Copy(got, f)
	if err != nil || n != size {
		t.Fatalf("%d bytes: %v", n, err)
	}
	piece := make([]byte, size/int64(places))
	copy(piece[5000:], "some data")
	for range places {
		want.Write(piece)
	}
	want.Write(make([]byte, size%int64(places)))
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Error("the content is another")
	}
}

func zipped(t testing.TB, write func(w io.Writer) error) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if err := errors.Join(write(z), z.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// copyZeros writes n zeros.
func copyZeros(w io.Writer, n int64) error {
	_, err := io.CopyN(w, zeroReader{}, n)
	return err
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestRootZerosBecomeHoles: zeros that a compressed layer is full of take no room, neither in a tree nor in a plain blob.
func TestRootZerosBecomeHoles(t *testing.T) {
	const size = 8<<20 + 77
	layer := func(w io.Writer) error {
		tw := tar.NewWriter(w)
		err := tw.WriteHeader(&tar.Header{Name: "zeros", Size: size, Mode: 0o644})
		return errors.Join(err, copyZeros(tw, size), tw.Close())
	}
	for form, in := range map[string]func(*Layers) *Layers{"directory": inDirectories, "erofs": asErofs} {
		for _, unpack := range []bool{true, false} {
			l := in(newLayers(t))
			got, _, err := l.IngestFrom(t.Context(), Incoming{Reader: bytes.NewReader(zipped(t, layer)), Unpack: unpack})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Tree(t.Context(), got.DiffID); err != nil {
				t.Fatal(err)
			}
			if n := onDisk(t, l); n > 4<<20 {
				t.Errorf("%s, unpacked at once %v: %d bytes on disk", form, unpack, n)
			}
		}
	}
	l := newLayers(t)
	r, w := io.Pipe()
	go func() { w.CloseWithError(layer(w)) }()
	got, _, err := l.Ingest(t.Context(), r, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if n := onDisk(t, l); n > 4<<20 {
		t.Errorf("plain blob: %d bytes on disk", n)
	}
	if err := l.Verify(t.Context(), got.DiffID); err != nil {
		t.Error(err)
	}
}

// TestUnpackedSizeIsLimited: what is refused is refused early, leaves nothing, and says how it is allowed.
func TestUnpackedSizeIsLimited(t *testing.T) {
	t.Setenv(quota.Setting, "10m")
	big := tar.Header{Name: "big", Size: 6 << 20}
	plain := func(names ...string) func(w io.Writer) error {
		return func(w io.Writer) error {
			tw := tar.NewWriter(w)
			for _, name := range names {
				h := big
				h.Name = name
				if err := errors.Join(tw.WriteHeader(&h), copyZeros(tw, h.Size)); err != nil {
					return err
				}
			}
			return tw.Close()
		}
	}
	for name, packed := range map[string][]byte{
		"two files":         zipped(t, plain("a", "b")),
		"one name twice":    zipped(t, plain("a", "a")),
		"zeros behind":      zipped(t, func(w io.Writer) error { return copyZeros(w, 20<<20) }),
		"in a gzip's tail":  join(zipped(t, plain("a")), bytes.Repeat(zipped(t, func(w io.Writer) error { return copyZeros(w, 1<<20) }), 10)),
		"a sparse file":     sparseTar(t, 11<<20, 1, sparseFormats["gnu"]...),
		"a sparse pax file": sparseTar(t, 1<<40, 1, sparseFormats["pax 1.0"]...),
	} {
		for _, unpack := range []bool{true, false} {
			l := newLayers(t)
			_, _, err := l.IngestFrom(t.Context(), Incoming{Reader: bytes.NewReader(packed), Unpack: unpack})
			if !errors.Is(err, quota.ErrExceeded) || !strings.Contains(err.Error(), "10MiB") || !strings.Contains(err.Error(), quota.Setting) {
				t.Errorf("%s: %v", name, err)
			}
			wantNothing(t, l)
		}
	}
	l := newLayers(t)
	if _, _, err := l.Ingest(t.Context(), bytes.NewReader(zipped(t, plain("a"))), "", ""); err != nil {
		t.Errorf("what is within the limit: %v", err)
	}
	t.Setenv(quota.Setting, "0")
	if _, _, err := l.Ingest(t.Context(), bytes.NewReader(zipped(t, plain("a", "b", "c"))), "", ""); err != nil {
		t.Errorf("without a limit: %v", err)
	}
	t.Setenv(quota.Setting, "many")
	if _, _, err := l.Ingest(t.Context(), bytes.NewReader(zipped(t, plain("a"))), "", ""); err == nil || !strings.Contains(err.Error(), `"many"`) {
		t.Errorf("an invalid limit: %v", err)
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
