package layer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// known reads a blob from words: its name, a recipe after ":", repositories after "@".
func known(text string) KnownBlob {
	text, repositories, _ := strings.Cut(text, "@")
	name, recipe, _ := strings.Cut(text, ":")
	b := KnownBlob{Blob: ocispec.Descriptor{MediaType: name, Digest: digest.FromString(name), Size: 1}, Recipe: recipe}
	if repositories != "" {
		b.Repositories = strings.Split(repositories, ",")
	}
	return b
}

func (b KnownBlob) text() string {
	text := b.Blob.MediaType
	if b.Recipe != "" {
		text += ":" + b.Recipe
	}
	if len(b.Repositories) > 0 {
		text += "@" + strings.Join(b.Repositories, ",")
	}
	return text
}

func knownText(list []KnownBlob) string {
	var words []string
	for _, b := range list {
		words = append(words, b.text())
	}
	return strings.Join(words, " ")
}

func TestAddKnown(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("x,", 20)
	for name, tt := range map[string]struct{ have, add, want string }{
		"the first":            {"", "a:gzip@r", "a:gzip@r"},
		"another":              {"a@r", "b@s", "b@s a@r"},
		"in another registry":  {"a@r", "a@s", "a@s,r"},
		"the same again":       {"a:gzip@r", "a:gzip@r", ""},
		"moves to the front":   {"b a:gzip@r", "a@r", "a:gzip@r b"},
		"without its recipe":   {"a:gzip@r", "a@s", "a:gzip@s,r"},
		"eight are kept":       {"1 2 3 4 5 6 7 8", "9", "9 1 2 3 4 5 6 7"},
		"sixteen repositories": {"a@" + many, "a@s", "a@s" + many[1:2] + "x"},
	} {
		var r blobRecord
		for word := range strings.FieldsSeq(tt.have) {
			r.Known = append(r.Known, known(word))
		}
		fresh := r.addKnown(known(tt.add))
		got := knownText(r.Known)
		if name == "sixteen repositories" {
			if n := len(r.Known[0].Repositories); n > maxRepositories {
				t.Errorf("%s: %d", name, n)
			}
			continue
		}
		if fresh != (tt.want != "") || fresh && got != tt.want {
			t.Errorf("%s: %s, new: %v, want %s", name, got, fresh, tt.want)
		}
	}
}

// layerDir makes the directory of a layer with nothing in it.
func layerDir(t *testing.T, l *Layers) digest.Digest {
	t.Helper()
	id := digest.FromString(t.Name())
	if err := os.MkdirAll(l.path(id), 0o755); err != nil {
		t.Fatal(err)
	}
	return id
}

func putBlob(t *testing.T, l *Layers, content string) ocispec.Descriptor {
	t.Helper()
	blob, err := l.store.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blob.Close() }()
	if _, err := blob.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	name, err := blob.Commit("")
	if err != nil {
		t.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: name, Size: int64(len(content))}
}

// TestBlobRecord: what holds the layer and what is known are kept apart, and neither changes the other.
func TestBlobRecord(t *testing.T) {
	t.Parallel()
	l := newLayers(t)
	id := layerDir(t, l)
	a, b := putBlob(t, l, "a"), putBlob(t, l, "b")
	for _, add := range [][]ocispec.Descriptor{{a}, {b}, {a, b}} {
		if err := l.addBlobs(id, add); err != nil {
			t.Fatal(err)
		}
		if err := l.AddKnownBlob(id, KnownBlob{Blob: add[0], Repositories: []string{"r"}}); err != nil {
			t.Fatal(err)
		}
	}
	wantBlobs(t, l, id, a, b)
	if got := l.KnownBlobs(id); len(got) != 2 || got[0].Blob.Digest != a.Digest {
		t.Errorf("known are %+v", got)
	}
	if err := l.store.RemoveBlob(a.Digest); err != nil {
		t.Fatal(err)
	}
	wantBlobs(t, l, id, b)
	if err := os.WriteFile(l.path(id, blobsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantBlobs(t, l, id)
	if err := l.addBlobs(id, []ocispec.Descriptor{b}); err != nil {
		t.Fatal(err)
	}
	wantBlobs(t, l, id, b)
}

func wantBlobs(t *testing.T, l *Layers, id digest.Digest, want ...ocispec.Descriptor) {
	t.Helper()
	got, err := l.blobs(id)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the blobs (-want +got):\n%s", diff)
	}
}

// TestBlobRecordOfNothing: of a layer that is not there nothing is kept.
func TestBlobRecordOfNothing(t *testing.T) {
	t.Parallel()
	l := newLayers(t)
	id := digest.FromString("a layer that is not there")
	if err := l.AddKnownBlob(id, known("a@r")); err != nil || l.KnownBlobs(id) != nil {
		t.Errorf("%v, %v", l.KnownBlobs(id), err)
	}
	if err := l.AddKnownBlob("../x", known("a@r")); err == nil {
		t.Error("a digest that leads out of the store is taken")
	}
}

// TestOldBlobRecord: the two files of earlier versions are read, and replaced when the record is written.
func TestOldBlobRecord(t *testing.T) {
	t.Parallel()
	l := newLayers(t)
	id := layerDir(t, l)
	a, b := putBlob(t, l, "a"), putBlob(t, l, "b")
	packs, err := json.Marshal([]ocispec.Descriptor{a})
	if err != nil {
		t.Fatal(err)
	}
	sources := fmt.Sprintf(`[{"pack":{"mediaType":"m","digest":%q,"size":1},"recipe":"gzip:5","repositories":["r"]}]`, b.Digest)
	for name, data := range map[string][]byte{oldStoredFile: packs, oldKnownFile: []byte(sources)} {
		if err := os.WriteFile(l.path(id, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		wantBlobs(t, l, id, a)
		want := []KnownBlob{{Blob: ocispec.Descriptor{MediaType: "m", Digest: b.Digest, Size: 1}, Recipe: "gzip:5", Repositories: []string{"r"}}}
		if diff := cmp.Diff(want, l.KnownBlobs(id)); diff != "" {
			t.Errorf("the known blobs (-want +got):\n%s", diff)
		}
		r, err := l.readBlobs(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.writeBlobs(id, r); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(l.path(id, "*")); len(left) != 1 {
			t.Errorf("there are %v", left)
		}
	}
}
