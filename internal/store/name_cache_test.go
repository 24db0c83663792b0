package store

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// giveNames gives names.
func giveNames(t testing.TB, s *Store, n int) {
	t.Helper()
	for i := range n {
		ref := fmt.Sprintf("docker.io/library/a:%03d", i)
		target := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(ref), Size: int64(i)}
		if err := s.Names().Set(ref, target, digest.FromString("image"+ref)); err != nil {
			t.Fatal(err)
		}
	}
}

// later is when all states are settled.
func later() time.Time { return time.Now().Add(time.Hour) }

// cached counts the names of the store whose files are in the cache as they are now.
func cached(t *testing.T, s *Store) int {
	t.Helper()
	cache := s.Names().openCache()
	defer func() { _ = cache.Close() }()
	files, err := filepath.Glob(s.Path("refs", "names", "*"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		key, _, err := nameKey(f, later())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := cache.Get(key); ok {
			n++
		}
	}
	return n
}

func TestListCachedIsList(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	giveNames(t, s, worthCaching+8)
	same := func(when string) {
		t.Helper()
		want, wantErr := s.Names().List()
		got, err := s.Names().listCached(later())
		if fmt.Sprint(got) != fmt.Sprint(want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%s: %v, %v\nwant %v, %v", when, got, err, want, wantErr)
		}
	}
	same("at first")
	if got := cached(t, s); got != worthCaching+8 {
		t.Fatalf("%d names are cached", got)
	}
	same("cached")
	ref := "docker.io/library/a:003"
	if err := s.Names().Set(ref, ocispec.Descriptor{MediaType: "x", Digest: digest.FromString("other")}); err != nil {
		t.Fatal(err)
	}
	same("a name that was given again")
	if err := s.Names().Remove(ref); err != nil {
		t.Fatal(err)
	}
	same("a name that was removed")
	if err := os.WriteFile(s.Names().path("docker.io/library/a:004"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	same("a name that was damaged")
}

// TestListCachedOfNewNames: their states could not be distinguished from the next.
func TestListCachedOfNewNames(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	giveNames(t, s, worthCaching)
	if _, err := s.Names().ListCached(); err != nil {
		t.Fatal(err)
	}
	if got := cached(t, s); got != 0 {
		t.Errorf("%d names are cached", got)
	}
}

// TestListCachedForgetsOldStates: the cache does not grow with every name that is given again.
func TestListCachedForgetsOldStates(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var size int64
	for range 4 {
		giveNames(t, s, worthCaching)
		if _, err := s.Names().listCached(later()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(s.Names().cachePath())
		if err != nil {
			t.Fatal(err)
		}
		if size == 0 {
			size = info.Size()
		}
		if info.Size() > 2*size {
			t.Errorf("the cache has %d bytes, of as many names as it had %d of", info.Size(), size)
		}
	}
}

func TestListCachedOfDamagedCache(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	giveNames(t, s, worthCaching)
	want, err := s.Names().listCached(later())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(s.Names().cachePath())
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "cut off": whole[:len(whole)-1], "an earlier version": []byte("mica-names-1\n\x00\x00\x00"),
		"a byte changed": append(slices.Clone(whole[:100]), append([]byte{whole[100] ^ 1}, whole[101:]...)...),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(s.Names().cachePath(), data, 0o600); err != nil {
				t.Fatal(err)
			}
			if cached(t, s) == worthCaching {
				t.Error("a damaged record is used")
			}
			if got, err := s.Names().listCached(later()); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestDecodeName(t *testing.T) {
	t.Parallel()
	d := digest.FromString("x")
	whole := Name{Ref: "docker.io/library/a:1", Target: ocispec.Descriptor{MediaType: "m", Digest: d, Size: 7}, Images: []digest.Digest{d, d}, Updated: time.Unix(5, 6).UTC()}
	for name, want := range map[string]Name{"whole": whole, "without images": {Ref: "a", Updated: time.Unix(0, 0).UTC()}} {
		if got, ok := decodeName(encodeName(want)); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, ok, want)
		}
	}
	// With the ends of texts as the only places where one can be cut without notice.
	data, ends := encodeName(whole), 0
	for i := range data {
		if _, ok := decodeName(data[:i]); ok {
			ends++
		}
	}
	if ends != 2 {
		t.Errorf("%d parts of a name are accepted, want 2: without the last image, and without any", ends)
	}
}

// FuzzDecodeName: any bytes as a name neither panic nor take more memory than there is.
func FuzzDecodeName(f *testing.F) {
	f.Add(encodeName(Name{Ref: "a", Images: []digest.Digest{"b"}}))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(_ *testing.T, data []byte) {
		decodeName(data)
	})
}
