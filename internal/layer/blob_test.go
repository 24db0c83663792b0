package layer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/store"
)

// A blob that is gone is compressed again, or fetched from who has it; what is fetched and is another is not taken.
func TestRootOpenBlobThatIsGone(t *testing.T) {
	const elsewhere = "example.com/repo"
	for _, c := range []struct {
		name    string
		recipe  string
		serve   func(blob []byte) ([]byte, error)
		problem string
	}{
		{"made again", compression.Recipe(compression.Gzip, 0), nil, ""},
		{"fetched", "", func(b []byte) ([]byte, error) { return b, nil }, ""},
		{"made of another recipe, and fetched", "gzip-members-of-old:5", func(b []byte) ([]byte, error) { return b, nil }, ""},
		{"nowhere", "", nil, "cannot be fetched from " + elsewhere + ": not here"},
		{"refused", "", func([]byte) ([]byte, error) { return nil, errors.New("denied") }, "cannot be fetched from " + elsewhere},
		{"another", "", func(b []byte) ([]byte, error) { return append([]byte{b[0] ^ 1}, b[1:]...), nil }, "content is damaged"},
		{"shorter", "", func(b []byte) ([]byte, error) { return b[:len(b)-1], nil }, "size"},
		{"endless", "", func(b []byte) ([]byte, error) { return append(bytes.Clone(b), b...), nil }, "size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLayers(t)
			made := write(t, l, sampleChanges(), AsTree).DiffID
			desc, err := l.Compress(t.Context(), made, compression.Gzip, 0)
			if err != nil {
				t.Fatal(err)
			}
			blob, err := l.store.ReadBlob(desc.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(l.store.Path("blobs", "sha256", desc.Digest.Encoded())); err != nil {
				t.Fatal(err)
			}
			forget(t, l, made)
			if err := l.AddKnownBlob(made, KnownBlob{Blob: desc, Recipe: c.recipe, Repositories: []string{elsewhere}}); err != nil {
				t.Fatal(err)
			}
			l.SetFetch(func(_ context.Context, repository string, _ ocispec.Descriptor) (io.ReadCloser, error) {
				if c.serve == nil || repository != elsewhere {
					return nil, errors.New("not here")
				}
				data, err := c.serve(blob)
				return io.NopCloser(bytes.NewReader(data)), err
			})
			r, err := l.OpenBlob(t.Context(), made, desc)
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) || !errors.Is(err, store.ErrNotFound) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			if got, err := io.ReadAll(r); err != nil || digest.FromBytes(got) != desc.Digest {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// forget removes what is known of a layer's blobs.
func forget(t *testing.T, l *Layers, id digest.Digest) {
	t.Helper()
	r, err := l.readBlobs(id)
	if err != nil {
		t.Fatal(err)
	}
	r.Known = nil
	if err := l.writeBlobs(id, r); err != nil {
		t.Fatal(err)
	}
}
