package ocilayout_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/ocilayout"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]ocilayout.Location{
		"oci:dir":                       {Kind: "oci", Path: "dir"},
		"oci:/a/b:1.0":                  {Kind: "oci", Path: "/a/b", Ref: "1.0"},
		"oci-archive:x.tar:a/b:c":       {Kind: "oci-archive", Path: "x.tar", Ref: "a/b:c"},
		"docker-archive:x.tar:alpine:3": {Kind: "docker-archive", Path: "x.tar", Ref: "alpine:3"},
	} {
		l, ok, err := ocilayout.Parse(in)
		if err != nil || !ok || *l != want || l.String() != in {
			t.Errorf("%q is %+v %v %v", in, l, ok, err)
		}
	}
	for _, name := range []string{"", "alpine", "alpine:3", "oci", "localhost:5000/oci:x", "docker://alpine", "ocix:a"} {
		if l, ok, err := ocilayout.Parse(name); ok || err != nil {
			t.Errorf("%q is %+v %v %v", name, l, ok, err)
		}
	}
	for _, bad := range []string{"oci:", "oci::x", "oci:dir:", "docker-archive:"} {
		if _, ok, err := ocilayout.Parse(bad); !ok || err == nil {
			t.Errorf("%q: %v %v", bad, ok, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	for _, kind := range []string{"oci", "oci-archive", "docker-archive"} {
		t.Run(kind, func(t *testing.T) {
			to := kind + ":" + filepath.Join(t.TempDir(), "x")
			write(t, o, image, to+":app:1", "reg.example/app:1")
			wantImage(t, to, image)
			wantImage(t, to+":app:1", image)
			wantError(t, openError(t, to+":app:2"), "no image named app:2", "app:1")
		})
	}
}

func TestRoundTripOfIndexWithReferrers(t *testing.T) {
	for _, kind := range []string{"oci", "oci-archive"} {
		t.Run(kind, func(t *testing.T) {
			o := newOrigin(t)
			one, two := o.image("one"), o.image("two")
			root := o.index(one, two)
			a, b := o.signature(root, "a"), o.signature(one, "b")
			c := o.signature(a, "c")
			to := kind + ":" + filepath.Join(t.TempDir(), "x")
			dst := create(t, to, "")
			for _, d := range []ocispec.Descriptor{root, a, b, c} {
				check(t, oras.CopyGraph(ctx, o, dst, d, oras.DefaultCopyGraphOptions))
			}
			check(t, dst.Commit(ctx, root))
			wantImage(t, to, root) // the only one that refers to nothing
			src := open(t, to)
			for subject, want := range map[digest.Digest]ocispec.Descriptor{root.Digest: a, one.Digest: b, a.Digest: c} {
				got := must[[]ocispec.Descriptor](t)(src.Predecessors(ctx, ocispec.Descriptor{Digest: subject}))
				if len(got) != 1 || got[0].Digest != want.Digest || got[0].ArtifactType != "application/x-signature" || got[0].Annotations["by"] == "" {
					t.Errorf("%v", got)
				}
			}
			// Once more, as a whole.
			again := kind + ":" + filepath.Join(t.TempDir(), "y")
			write(t, src, root, again, "")
			if got := must[[]ocispec.Descriptor](t)(open(t, again).Predecessors(ctx, a)); len(got) != 1 {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestReferrersOfTagSchema(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	s := o.signature(image, "s")
	dir := t.TempDir()
	store := must[*oci.Store](t)(oci.New(dir))
	list := o.index(s)
	for ref, d := range map[string]ocispec.Descriptor{"v1": image, "sha256-" + image.Digest.Encoded(): list} {
		check(t, oras.CopyGraph(ctx, o, store, d, oras.DefaultCopyGraphOptions))
		check(t, store.Tag(ctx, d, ref))
	}
	src := open(t, "oci:"+dir+":v1")
	if got := must[[]ocispec.Descriptor](t)(src.Predecessors(ctx, image)); len(got) != 1 || got[0].Digest != s.Digest {
		t.Errorf("%v", got)
	}
	wantImage(t, "oci:"+dir+":v1", image)
}

func TestAttestationsOfIndexAreListedOnce(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	root := o.index(image, o.signature(image, "s"))
	dir := filepath.Join(t.TempDir(), "x")
	write(t, o, root, "oci:"+dir+":v", "")
	if got := readIndex(t, must[[]byte](t)(os.ReadFile(filepath.Join(dir, "index.json")))); !slices.Equal(got, []string{"v "}) {
		t.Errorf("%q", got)
	}
}

// TestOrasReads has another reader read what is written.
func TestOrasReads(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	dir := filepath.Join(t.TempDir(), "deep", "layout")
	write(t, o, image, "oci:"+dir+":v1", "")
	tarFile := filepath.Join(t.TempDir(), "x.tar")
	write(t, o, image, "oci-archive:"+tarFile+":v1", "")
	for name, open := range map[string]func() (*oci.ReadOnlyStore, error){
		"directory": func() (*oci.ReadOnlyStore, error) { return oci.NewFromFS(ctx, os.DirFS(dir)) },
		"archive":   func() (*oci.ReadOnlyStore, error) { return oci.NewFromTar(ctx, tarFile) },
	} {
		store, err := open()
		if err != nil {
			t.Fatal(name, err)
		}
		d := must[ocispec.Descriptor](t)(store.Resolve(ctx, "v1"))
		check(t, oras.CopyGraph(ctx, store, newOrigin(t), d, oras.DefaultCopyGraphOptions))
	}
}

func TestNothingBeforeCommit(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	for _, kind := range []string{"oci-archive", "docker-archive"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "x.tar")
		check(t, os.WriteFile(path, []byte("before"), 0o600))
		dst := must[*ocilayout.Destination](t)(locate(t, kind+":"+path).Create(ctx, ocilayout.CreateOptions{}))
		check(t, oras.CopyGraph(ctx, o, dst, image, oras.DefaultCopyGraphOptions))
		check(t, dst.Close())
		check(t, dst.Close())
		left := must[[]os.DirEntry](t)(os.ReadDir(dir))
		if data := must[[]byte](t)(os.ReadFile(path)); string(data) != "before" || len(left) != 1 {
			t.Errorf("%s: there is %q, %v", kind, data, left)
		}
		if err := dst.Push(ctx, image, bytes.NewReader(nil)); err == nil {
			t.Error("pushed after Close")
		}
	}
	path := filepath.Join(t.TempDir(), "x")
	dst := create(t, "oci:"+path, "")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
	check(t, oras.CopyGraph(ctx, o, dst, image, oras.DefaultCopyGraphOptions))
	if _, err := os.Stat(filepath.Join(path, "index.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("index.json is there: %v", err)
	}
	// What is left of it is no hindrance.
	write(t, o, image, "oci:"+path+":v", "")
	wantImage(t, "oci:"+path, image)
}

func TestDestinationStorage(t *testing.T) {
	small, large := []byte(`{"a":1}`), bytes.Repeat([]byte("large"), 1<<20)
	for _, kind := range []string{"oci", "oci-archive", "docker-archive"} {
		dst := create(t, kind+":"+filepath.Join(t.TempDir(), "x"), "")
		for _, d := range []ocispec.Descriptor{describe(ocispec.MediaTypeImageConfig, small), describe(ocispec.MediaTypeImageLayer, large)} {
			raw := small
			if d.Size > 100 {
				raw = large
			}
			if ok := must[bool](t)(dst.Exists(ctx, d)); ok {
				t.Errorf("%s: %s is there", kind, d.Digest)
			}
			if _, err := dst.Fetch(ctx, d); !errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("%s: %v", kind, err)
			}
			for range 2 {
				check(t, dst.Push(ctx, d, bytes.NewReader(raw)))
			}
			if ok := must[bool](t)(dst.Exists(ctx, d)); !ok {
				t.Errorf("%s: %s is not there", kind, d.Digest)
			}
			if got := must[[]byte](t)(content.FetchAll(ctx, dst, d)); !bytes.Equal(got, raw) {
				t.Errorf("%s: %s differs", kind, d.Digest)
			}
		}
	}
}

func TestPushRefuses(t *testing.T) {
	raw := bytes.Repeat([]byte("x"), 3000)
	good := describe(ocispec.MediaTypeImageLayer, raw)
	with := func(change func(*ocispec.Descriptor)) ocispec.Descriptor {
		d := good
		change(&d)
		return d
	}
	for name, c := range map[string]struct {
		d    ocispec.Descriptor
		raw  []byte
		want string
	}{
		"other content": {good, bytes.Repeat([]byte("y"), 3000), "digest mismatch"},
		"too short":     {good, raw[:2000], "ends after 2000 of 3000"},
		"too long":      {good, append(slices.Clone(raw), 'x'), "more than the 3000"},
		"sha512":        {with(func(d *ocispec.Descriptor) { d.Digest = digest.SHA512.FromBytes(raw) }), raw, "only sha256"},
		"no digest":     {with(func(d *ocispec.Descriptor) { d.Digest = "../../x" }), raw, "invalid digest"},
		"negative":      {with(func(d *ocispec.Descriptor) { d.Size = -1 }), raw, "-1"},
		"huge config":   {with(func(d *ocispec.Descriptor) { d.MediaType, d.Size = ocispec.MediaTypeImageConfig, 5<<20 }), raw, "the limit"},
	} {
		for _, kind := range []string{"oci", "oci-archive"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				o := newOrigin(t)
				image := o.image("a")
				to := kind + ":" + filepath.Join(t.TempDir(), "x")
				dst := create(t, to, "")
				wantError(t, dst.Push(ctx, c.d, bytes.NewReader(c.raw)), c.want)
				// The next try succeeds, and the whole is good.
				check(t, dst.Push(ctx, good, bytes.NewReader(raw)))
				wantError(t, dst.Commit(ctx, image), image.Digest.String())
				check(t, oras.CopyGraph(ctx, o, dst, image, oras.DefaultCopyGraphOptions))
				check(t, dst.Commit(ctx, image))
				wantImage(t, to, image)
				src := open(t, to)
				if got := must[[]byte](t)(content.FetchAll(ctx, src, good)); !bytes.Equal(got, raw) {
					t.Error("the blob differs")
				}
			})
		}
	}
}

func TestPushesAtTheSameTime(t *testing.T) {
	for _, kind := range []string{"oci", "oci-archive"} {
		o := newOrigin(t)
		image := o.image("a")
		to := kind + ":" + filepath.Join(t.TempDir(), "x")
		dst := create(t, to, "")
		var g errgroup.Group
		var blobs []ocispec.Descriptor
		for i := range 20 {
			raw := bytes.Repeat([]byte{byte(i)}, 1000*i)
			d := describe(ocispec.MediaTypeImageLayer, raw)
			blobs = append(blobs, d)
			for range 3 {
				g.Go(func() error { return dst.Push(ctx, d, bytes.NewReader(raw)) })
			}
			g.Go(func() error { _, err := dst.Exists(ctx, d); return err })
		}
		g.Go(func() error { return oras.CopyGraph(ctx, o, dst, image, oras.DefaultCopyGraphOptions) })
		check(t, g.Wait())
		check(t, dst.Commit(ctx, image))
		wantImage(t, to, image)
		src := open(t, to)
		for _, d := range blobs {
			g.Go(func() error { _, err := content.FetchAll(ctx, src, d); return err })
		}
		check(t, g.Wait())
	}
}

func TestArchiveIsDeterministic(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	one := oras.CopyGraphOptions{Concurrency: 1}
	var all [][]byte
	for range 2 {
		path := filepath.Join(t.TempDir(), "x.tar")
		dst := create(t, "oci-archive:"+path+":v", "x.example/y:v")
		var order []ocispec.Descriptor
		var mu sync.Mutex
		one.PreCopy = func(_ context.Context, d ocispec.Descriptor) error {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, d)
			return nil
		}
		check(t, oras.CopyGraph(ctx, o, newOrigin(t), image, one))
		slices.SortFunc(order, func(a, b ocispec.Descriptor) int { return bytes.Compare([]byte(a.Digest), []byte(b.Digest)) })
		for _, d := range order {
			check(t, dst.Push(ctx, d, bytes.NewReader(must[[]byte](t)(content.FetchAll(ctx, o, d)))))
		}
		check(t, dst.Commit(ctx, image))
		all = append(all, must[[]byte](t)(os.ReadFile(path)))
		members(t, path)
	}
	if !bytes.Equal(all[0], all[1]) {
		t.Error("the bytes differ")
	}
}

func TestDirectoryKeepsOtherImages(t *testing.T) {
	o := newOrigin(t)
	a, b, c := o.image("a"), o.image("b"), o.image("c")
	dir := filepath.Join(t.TempDir(), "x")
	write(t, o, a, "oci:"+dir+":one", "reg.example/a:1")
	write(t, o, b, "oci:"+dir+":two", "")
	write(t, o, c, "oci:"+dir, "reg.example/c:1")
	wantImage(t, "oci:"+dir+":one", a)
	wantImage(t, "oci:"+dir+":two", b)
	wantImage(t, "oci:"+dir+":reg.example/c:1", c)
	wantImage(t, "oci:"+dir+":"+a.Digest.String(), a)
	wantError(t, openError(t, "oci:"+dir), "3 images", "one", "two", "reg.example/c:1")
	wantError(t, openError(t, "oci:"+dir+":three"), "no image named three", "one", "two")

	write(t, o, c, "oci:"+dir+":one", "reg.example/a:2")
	wantImage(t, "oci:"+dir+":one", c)
	write(t, o, a, "oci:"+dir, "reg.example/c:1")
	write(t, o, a, "oci:"+dir, "reg.example/c:1")
	want := []string{" reg.example/c:1", "one reg.example/a:2", "two "}
	if got := readIndex(t, must[[]byte](t)(os.ReadFile(filepath.Join(dir, "index.json")))); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestDirectoryTakesTwoCopiesAtOnce(t *testing.T) {
	o := newOrigin(t)
	dir := filepath.Join(t.TempDir(), "x")
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	var images []ocispec.Descriptor
	for _, n := range names {
		images = append(images, o.image(n))
	}
	var g errgroup.Group
	for i, n := range names {
		g.Go(func() error { return writeError(t, o, images[i], "oci:"+dir+":"+n, "") })
	}
	check(t, g.Wait())
	for i, n := range names {
		wantImage(t, "oci:"+dir+":"+n, images[i])
	}
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(dir)) {
		if !slices.Contains([]string{".lock", "blobs", "index.json", "oci-layout"}, e.Name()) {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestDirectoryLockObeysContext(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	dir := filepath.Join(t.TempDir(), "x")
	dst := create(t, "oci:"+dir, "")
	check(t, oras.CopyGraph(ctx, o, dst, image, oras.DefaultCopyGraphOptions))
	lock := must[*os.File](t)(os.Create(filepath.Join(dir, ".lock")))
	check(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	wantError(t, dst.Commit(short, image), "lock", "deadline")
	check(t, lock.Close())
	check(t, dst.Commit(ctx, image))
	wantImage(t, "oci:"+dir, image)
}

// TestDirectoryHeals copies to a layout in which blobs are damaged, short or gone.
func TestDirectoryHeals(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	dir := filepath.Join(t.TempDir(), "x")
	write(t, o, image, "oci:"+dir+":v", "")
	var m ocispec.Manifest
	check(t, json.Unmarshal(must[[]byte](t)(content.FetchAll(ctx, o, image)), &m))
	path := func(d ocispec.Descriptor) string { return filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()) }
	check(t, os.WriteFile(path(m.Layers[0]), bytes.Repeat([]byte("x"), int(m.Layers[0].Size)), 0o600))
	check(t, os.WriteFile(path(m.Layers[1]), nil, 0o600))
	check(t, os.Remove(path(m.Config)))
	write(t, o, image, "oci:"+dir+":v", "")
	wantImage(t, "oci:"+dir+":v", image)
}

func TestCreateRefuses(t *testing.T) {
	full := t.TempDir()
	check(t, os.WriteFile(filepath.Join(full, "thesis.txt"), nil, 0o600))
	fifo := filepath.Join(t.TempDir(), "fifo")
	check(t, unix.Mkfifo(fifo, 0o600))
	for to, want := range map[string]string{
		"oci:" + full:                        "thesis.txt",
		"oci:" + fifo:                        "not a directory",
		"oci:" + full + "/x:a b":             "invalid name",
		"oci:" + full + "/x:../a":            "invalid name",
		"oci-archive:" + full:                "not a file",
		"oci-archive:/dev/null":              "not a file",
		"docker-archive:" + fifo:             "not a file",
		"docker-archive:" + full + "/no/x":   "no such file",
		"docker-archive:" + full + "/x:A:b":  "invalid name",
		"docker-archive:" + full + "/x:a@b":  "invalid name",
		"docker-archive:" + full + "/x:a:b:": "invalid name",
	} {
		_, err := locate(t, to).Create(ctx, ocilayout.CreateOptions{})
		wantError(t, err, want, to)
	}
	_, err := locate(t, "oci:x").Create(ctx, ocilayout.CreateOptions{Name: "!!"})
	wantError(t, err, "invalid name")
}

func TestArchiveReplacesThroughSymlink(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "real"), nil, 0o600))
	check(t, os.Symlink("real", filepath.Join(dir, "link")))
	write(t, o, image, "oci-archive:"+filepath.Join(dir, "link"), "")
	wantImage(t, "oci-archive:"+filepath.Join(dir, "real"), image)
}

func TestCancelled(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	path := filepath.Join(t.TempDir(), "x.tar")
	write(t, o, image, "oci-archive:"+path, "")
	packed := put(t, "x.tar.gz", gzipped(t, must[[]byte](t)(os.ReadFile(path))))
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for _, s := range []string{path, packed} {
		if _, err := locate(t, "oci-archive:"+s).Open(gone, t.TempDir()); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	for _, kind := range []string{"oci", "oci-archive"} {
		dst := create(t, kind+":"+filepath.Join(t.TempDir(), "x"), "")
		if err := dst.Push(gone, describe("x", []byte("x")), bytes.NewReader([]byte("x"))); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	r := must[io.ReadCloser](t)(open(t, "oci-archive:"+path).Fetch(gone, image))
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
