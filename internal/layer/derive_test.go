package layer

import (
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/compression"
)

// TestRootClamp: everything of a layer is kept, whiteouts and hardlinks too, but for times that are too late.
func TestRootClamp(t *testing.T) {
	for _, form := range []Form{Packed, Unpacked} {
		l := newLayers(t)
		made, err := l.Write(t.Context(), sampleChanges(), form)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := l.Clamp(t.Context(), made.DiffID, testTime); err != nil || same != made.DiffID {
			t.Errorf("nothing is newer, and it becomes %s: %v", same, err)
		}
		latest := testTime.AddDate(-1, 0, 0)
		id, err := l.Clamp(t.Context(), made.DiffID, latest)
		if err != nil {
			t.Fatal(err)
		}
		before, err := l.TOC(t.Context(), made.DiffID)
		if err != nil {
			t.Fatal(err)
		}
		after, err := l.TOC(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if len(before.Entries) != len(after.Entries) {
			t.Fatalf("%d entries of %d", len(after.Entries), len(before.Entries))
		}
		for i, e := range before.Entries {
			want := e.Clone()
			if want.ModTime.After(latest) {
				want.ModTime = latest
			}
			if got := after.Entries[i]; !got.ModTime.Equal(want.ModTime) || got.Path != want.Path || got.Digest != want.Digest || got.Type != want.Type || got.Hardlink != want.Hardlink || got.Opaque != want.Opaque {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
	}
}

// TestRootCompress: once, and to the same blob.
func TestRootCompress(t *testing.T) {
	l := newLayers(t)
	made, err := l.Write(t.Context(), sampleChanges(), Unpacked)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []compression.Algorithm{compression.Gzip, compression.Zstd} {
		d, err := l.Compress(t.Context(), made.DiffID, a, 0)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := l.Compress(t.Context(), made.DiffID, a, 0); err != nil || again.Digest != d.Digest {
			t.Errorf("%s, then %s: %v", d.Digest, again.Digest, err)
		}
		f, err := l.store.VerifiedBlob(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		plain, _, err := compression.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		h := digest.SHA256.Digester()
		if _, err := io.Copy(h.Hash(), plain); err != nil || h.Digest() != made.DiffID {
			t.Errorf("%s decompresses to %s: %v", a, h.Digest(), err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
