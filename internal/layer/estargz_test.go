package layer

import (
	"bytes"
	"io"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/compression"
)

// TestRootEstargz: the blob has a table of contents, as annotated, and decompresses to a layer of the same files.
func TestRootEstargz(t *testing.T) {
	for _, form := range []Form{AsBlob, AsTree} {
		l := newLayers(t)
		made, err := l.Write(t.Context(), sampleChanges(), form)
		if err != nil {
			t.Fatal(err)
		}
		e, err := l.Estargz(t.Context(), made.DiffID, 0)
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.store.OpenBlob(e.Blob.Digest)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		r, err := estargz.Open(io.NewSectionReader(f, 0, e.Blob.Size))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.VerifyTOC(digest.Digest(e.Blob.Annotations[estargz.TOCJSONDigestAnnotation])); err != nil {
			t.Error(err)
		}
		plain, _, err := compression.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(plain)
		if got := digest.FromBytes(all); err != nil || got != e.DiffID || e.DiffID == made.DiffID {
			t.Errorf("of %s it decompresses to %s, not %s: %v", made.DiffID, got, e.DiffID, err)
		}
		if !bytes.HasPrefix(all, readTar(t, l, made.DiffID)) {
			t.Error("the tar that was compressed is not what the blob begins with")
		}
		before, err := l.TOC(t.Context(), made.DiffID)
		if err != nil {
			t.Fatal(err)
		}
		after, err := l.TOC(t.Context(), e.DiffID)
		if err != nil {
			t.Fatal(err)
		}
		if len(before.Entries) != len(after.Entries) {
			t.Fatalf("%d entries of %d", len(after.Entries), len(before.Entries))
		}
		for i, want := range before.Entries {
			if got := after.Entries[i]; got.Path != want.Path || got.Size != want.Size || got.Type != want.Type || got.Hardlink != want.Hardlink {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		for what, id := range map[string]digest.Digest{"the layer again": made.DiffID, "what it became": e.DiffID} {
			if again, err := l.Estargz(t.Context(), id, 0); err != nil || again.DiffID != e.DiffID || again.Blob.Digest != e.Blob.Digest {
				t.Errorf("%s: %+v, want %+v: %v", what, again, e, err)
			}
		}
		if faster, err := l.Estargz(t.Context(), made.DiffID, 1); err != nil || faster.DiffID == "" {
			t.Errorf("%+v: %v", faster, err)
		}
	}
}

// TestOddFooters: a blob that somebody else made may end with anything.
func TestOddFooters(t *testing.T) {
	t.Parallel()
	good := estargz.CreateGzipFooter([]byte("SG\x16\x000000000000000001STARGZ"))
	short := estargz.CreateGzipFooter([]byte("SG\x16\x00")) // the library reads beyond the end of its field
	for name, blob := range map[string][]byte{
		"nothing": nil, "a part": good[1:], "no table": good, "a short field": append(make([]byte, 100), append(short, make([]byte, 51-len(short))...)...),
		"no gzip": append(make([]byte, 100), good...),
	} {
		if smallTable(io.NewSectionReader(bytes.NewReader(blob), 0, int64(len(blob)))) {
			t.Errorf("%s has a table", name)
		}
	}
}
