package ocilayout_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/errdef"
)

// layoutFiles are the files of a layout with one image, by name.
func layoutFiles(t testing.TB) (files map[string]string, image ocispec.Descriptor) {
	t.Helper()
	o := newOrigin(t)
	image = o.image("a")
	path := filepath.Join(t.TempDir(), "x.tar")
	write(t, o, image, "oci-archive:"+path+":v", "")
	return members(t, path), image
}

// inBoth puts files into a directory and into an archive, and returns these locations.
func inBoth(t testing.TB, files map[string]string) []string {
	t.Helper()
	dir := t.TempDir()
	var list []file
	for name, data := range files {
		list = append(list, file{name: name, data: data})
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600))
	}
	return []string{"oci:" + dir, "oci-archive:" + put(t, "x.tar", tarOf(t, list...))}
}

func TestBadLayouts(t *testing.T) {
	with := func(name, data string) func(map[string]string) {
		return func(f map[string]string) { f[name] = data }
	}
	entry := func(d string) func(map[string]string) { return with("index.json", `{"manifests":[`+d+`]}`) }
	const manifest = `"mediaType":"application/vnd.oci.image.manifest.v1+json"`
	for name, c := range map[string]struct {
		change func(map[string]string)
		want   string
	}{
		"no index":        {func(f map[string]string) { delete(f, "index.json") }, "not an OCI image layout"},
		"broken index":    {with("index.json", "{"), "index.json is damaged"},
		"index of junk":   {with("index.json", `"x"`), "index.json is damaged"},
		"huge index":      {with("index.json", strings.Repeat(" ", 5<<20)), "the limit is 4194304"},
		"empty index":     {with("index.json", "{}"), "no image"},
		"other version":   {with("oci-layout", `{"imageLayoutVersion":"2.0.0"}`), `version "2.0.0"`},
		"broken version":  {with("oci-layout", ``), "oci-layout is damaged"},
		"no digest":       {entry(`{` + manifest + `,"size":3}`), "invalid digest"},
		"digest of path":  {entry(`{` + manifest + `,"digest":"sha256:../../x","size":3}`), "invalid digest"},
		"sha512":          {entry(`{` + manifest + `,"digest":"` + digest.SHA512.FromString("x").String() + `","size":3}`), "only sha256"},
		"negative size":   {entry(`{` + manifest + `,"digest":"` + digest.FromString("x").String() + `","size":-3}`), "-3"},
		"huge manifest":   {entry(`{` + manifest + `,"digest":"` + digest.FromString("x").String() + `","size":5000000}`), "limit for a manifest or config is 4194304"},
		"two of no names": {entry(`{"digest":"` + digest.FromString("x").String() + `"},{"digest":"` + digest.FromString("y").String() + `"}`), digest.FromString("y").String()},
	} {
		t.Run(name, func(t *testing.T) {
			files, _ := layoutFiles(t)
			c.change(files)
			for _, s := range inBoth(t, files) {
				wantError(t, openError(t, s), c.want, s)
			}
		})
	}
	t.Run("no version", func(t *testing.T) {
		files, image := layoutFiles(t)
		delete(files, "oci-layout")
		for _, s := range inBoth(t, files) {
			wantImage(t, s, image)
		}
	})
}

func TestSameNameTwice(t *testing.T) {
	files, _ := layoutFiles(t)
	d := func(of string) string {
		return `{"digest":"` + digest.FromString(of).String() + `","annotations":{"org.opencontainers.image.ref.name":"v"}}`
	}
	files["index.json"] = `{"manifests":[` + d("x") + `,` + d("y") + `]}`
	for _, s := range inBoth(t, files) {
		wantError(t, openError(t, s+":v"), "2 images are named v")
	}
}

func TestDamagedBlobs(t *testing.T) {
	files, image := layoutFiles(t)
	for name := range files {
		if !strings.HasPrefix(name, "blobs/") {
			continue
		}
		d := "sha256:" + filepath.Base(name)
		for what, change := range map[string]func(map[string]string){
			"digest mismatch": func(f map[string]string) { f[name] = strings.Repeat("x", len(f[name])) },
			"bytes, not the":  func(f map[string]string) { f[name] += "x" },
			"is missing":      func(f map[string]string) { delete(f, name) },
		} {
			files, _ := layoutFiles(t)
			change(files)
			for _, s := range inBoth(t, files) {
				err := oras.CopyGraph(ctx, open(t, s), memory.New(), image, oras.DefaultCopyGraphOptions)
				wantError(t, err, what, d, s)
				if what == "is missing" != errors.Is(err, errdef.ErrNotFound) {
					t.Errorf("%v", err)
				}
			}
		}
	}
}

// TestDamagedBlobIsNeverWhole reads as many bytes as there should be, as those do who know the length.
func TestDamagedBlobIsNeverWhole(t *testing.T) {
	files, image := layoutFiles(t)
	name := "blobs/sha256/" + image.Digest.Encoded()
	files[name] = strings.Repeat("x", len(files[name]))
	for _, s := range inBoth(t, files) {
		r := must[io.ReadCloser](t)(open(t, s).Fetch(ctx, image))
		n, err := io.ReadFull(r, make([]byte, image.Size))
		wantError(t, err, "digest mismatch")
		if int64(n) == image.Size {
			t.Error("all was read")
		}
		check(t, r.Close())
	}
}

func TestDirectoryLeadsNowhereElse(t *testing.T) {
	files, image := layoutFiles(t)
	name := "blobs/sha256/" + image.Digest.Encoded()
	outside := put(t, "manifest", []byte(files[name]))
	for what, put := range map[string]func(string) error{
		"escapes":    func(path string) error { return os.Symlink(outside, path) },
		"not a file": func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		dir := strings.TrimPrefix(inBoth(t, files)[0], "oci:")
		check(t, os.Remove(filepath.Join(dir, name)))
		check(t, put(filepath.Join(dir, name)))
		_, err := open(t, "oci:"+dir).Fetch(ctx, image)
		wantError(t, err, what, image.Digest.String())
	}
}

func TestBadArchives(t *testing.T) {
	files, image := layoutFiles(t)
	archive := must[[]byte](t)(os.ReadFile(strings.TrimPrefix(inBoth(t, files)[1], "oci-archive:")))
	wantImage(t, "oci-archive:"+put(t, "x", archive), image)
	wantImage(t, "oci-archive:"+put(t, "x.gz", gzipped(t, archive)), image)
	wantImage(t, "oci-archive:"+put(t, "x.zst", zstded(t, archive)), image)
	packed := gzipped(t, archive)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":           {nil, "empty"},
		"garbage":         {[]byte(strings.Repeat("garbage ", 1000)), "not an image archive"},
		"short garbage":   {[]byte("{}"), "not an image archive"},
		"packed garbage":  {gzipped(t, []byte("garbage")), "not an image archive"},
		"cut in content":  {archive[:len(archive)-2000], "truncated"},
		"cut in a header": {tarOf(t, file{name: "a", data: strings.Repeat("a", 512)}, file{name: "b"})[:1100], "truncated"},
		"packed and cut":  {packed[:len(packed)/2], "ends too early"},
		"packed, damaged": {append(packed[:100:100], bytes.Repeat([]byte{0xff}, len(packed)-100)...), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, "x.tar", c.data)
			for _, kind := range []string{"oci-archive:", "docker-archive:"} {
				temp := t.TempDir()
				_, err := locate(t, kind+path).Open(ctx, temp)
				wantError(t, err, c.want, path)
				if left := must[[]os.DirEntry](t)(os.ReadDir(temp)); len(left) > 0 {
					t.Errorf("%v is left", left)
				}
			}
		})
	}
	for _, s := range []string{"oci-archive:" + t.TempDir(), "oci:" + put(t, "x", archive), "oci:/no/such", "docker-archive:/no/such"} {
		wantError(t, openError(t, s), s)
	}
}

// TestAnyCut cuts an archive anywhere before the end of its index.json, which comes after the blobs.
func TestAnyCut(t *testing.T) {
	o := newOrigin(t)
	path := filepath.Join(t.TempDir(), "x.tar")
	write(t, o, o.image("a"), "oci-archive:"+path, "")
	archive := must[[]byte](t)(os.ReadFile(path))
	for n := 0; n < bytes.LastIndex(archive, []byte("index.json"))+600; n += 100 {
		src, err := locate(t, "oci-archive:"+put(t, "x", archive[:n])).Open(ctx, t.TempDir())
		if err != nil {
			continue
		}
		root, err := src.Root(ctx)
		if err == nil {
			err = oras.CopyGraph(ctx, src, memory.New(), root, oras.DefaultCopyGraphOptions)
		}
		if err == nil {
			t.Errorf("cut after %d of %d bytes, it is whole", n, len(archive))
		}
		check(t, src.Close())
	}
}

// TestArchiveFromPipe reads what cannot be read twice.
func TestArchiveFromPipe(t *testing.T) {
	files, image := layoutFiles(t)
	archive := must[[]byte](t)(os.ReadFile(strings.TrimPrefix(inBoth(t, files)[1], "oci-archive:")))
	fifo := filepath.Join(t.TempDir(), "fifo")
	check(t, unix.Mkfifo(fifo, 0o600))
	go func() { _ = os.WriteFile(fifo, archive, 0o600) }()
	wantImage(t, "oci-archive:"+fifo, image)
}

// FuzzArchive gives arbitrary bytes for an archive.
func FuzzArchive(f *testing.F) {
	files, _ := layoutFiles(f)
	archive := must[[]byte](f)(os.ReadFile(strings.TrimPrefix(inBoth(f, files)[1], "oci-archive:")))
	f.Add(archive)
	f.Add(gzipped(f, archive))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range []string{"oci-archive:", "docker-archive:"} {
			src, err := locate(t, kind+put(t, "x", data)).Open(ctx, t.TempDir())
			if err != nil {
				continue
			}
			if root, err := src.Root(ctx); err == nil {
				_ = oras.CopyGraph(ctx, src, memory.New(), root, oras.DefaultCopyGraphOptions)
			}
			check(t, src.Close())
		}
	})
}
