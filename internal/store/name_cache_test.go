package store

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// giveNames gives names.
func giveNames(t *testing.T, s *Store, n int) {
	t.Helper()
	for i := range n {
		ref := fmt.Sprintf("docker.io/library/a:%03d", i)
		target := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(ref), Size: int64(i)}
		if err := s.Names().Set(ref, target, digest.FromString("image"+ref)); err != nil {
			t.Fatal(err)
		}
	}
}

// later is when states are old enough to be told from the next.
func later() time.Time { return time.Now().Add(time.Hour) }

func TestListCachedIsList(t *testing.T) {
	s := newStore(t)
	giveNames(t, s, worthRemembering+8)
	same := func(when string) {
		t.Helper()
		want, wantErr := s.Names().List()
		got, err := s.Names().listCached(later())
		if fmt.Sprint(got) != fmt.Sprint(want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%s: %v, %v\nwant %v, %v", when, got, err, want, wantErr)
		}
	}
	same("at first")
	if got := s.Names().remembered(); len(got) != worthRemembering+8 {
		t.Fatalf("%d names are remembered", len(got))
	}
	same("remembered")
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

// TestRecallOfNewNames: their states could not be told from the next.
func TestListCachedOfNewNames(t *testing.T) {
	s := newStore(t)
	giveNames(t, s, worthRemembering)
	if _, err := s.Names().ListCached(); err != nil {
		t.Fatal(err)
	}
	if got := s.Names().remembered(); len(got) != 0 {
		t.Errorf("%d names are remembered", len(got))
	}
}

func TestListCachedOfDamagedMemory(t *testing.T) {
	s := newStore(t)
	giveNames(t, s, worthRemembering)
	want, err := s.Names().listCached(later())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(s.Names().memoryPath())
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "cut off": whole[:len(whole)-1], "only the magic": []byte(namesMagic),
		"a byte changed": append(slices.Clone(whole[:100]), append([]byte{whole[100] ^ 1}, whole[101:]...)...),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(s.Names().memoryPath(), data, 0o600); err != nil {
				t.Fatal(err)
			}
			if len(s.Names().remembered()) != 0 {
				t.Error("it is believed")
			}
			if got, err := s.Names().listCached(later()); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// FuzzRemembered: whatever stands in the memory, reading it neither fails nor takes more than there is.
func FuzzRemembered(f *testing.F) {
	f.Add([]byte{1, 1, 'a', 1, 2, 3, 4, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(_ *testing.T, body []byte) {
		decodeNames(body)
	})
}
