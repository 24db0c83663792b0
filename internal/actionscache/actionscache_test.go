package actionscache

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/actionscache/actionscachetest"
	"github.com/micabuild/mica/internal/registry"
)

func open(t *testing.T, s *actionscachetest.Server, scope string) *Cache {
	t.Helper()
	c, err := New(Options{URL: s.URL, Token: s.Token, Scope: scope, Timeout: time.Minute, Objects: registry.New(registry.Options{FirstWait: time.Millisecond}).Objects()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestBlobs: a blob of several blocks comes back, also from a service that fails at times, and whose downloads break off.
func TestBlobs(t *testing.T) {
	t.Parallel()
	s := actionscachetest.New(t)
	c := open(t, s, "x")
	data := bytes.Repeat([]byte("mica"), 2<<20+1)
	d := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	if ok, err := c.Exists(t.Context(), d); ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := c.Fetch(t.Context(), d); !errors.Is(err, errdef.ErrNotFound) {
		t.Fatal(err)
	}
	s.Fail(2)
	for range 2 { // the second time it is there
		if err := c.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	s.Break(3)
	r, err := c.Fetch(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	other := d
	other.Digest = digest.FromString("other")
	if err := c.Push(t.Context(), other, bytes.NewReader(data)); err == nil {
		t.Error("a blob of another digest is written")
	}
}

// TestIndexes: the newest index is read, and those of other names are not.
func TestIndexes(t *testing.T) {
	t.Parallel()
	s := actionscachetest.New(t)
	for _, name := range []string{"a", "b"} {
		c := open(t, s, name)
		if list, err := c.Indexes(t.Context()); len(list) > 0 || err != nil {
			t.Fatal(list, err)
		}
		for _, text := range []string{name + "1", name + "2"} {
			if err := c.PutIndex(t.Context(), []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		list, err := c.Indexes(t.Context())
		if err != nil || len(list) != 1 || string(list[0]) != name+"2" {
			t.Errorf("%s: %q, %v", name, list, err)
		}
	}
}

// TestErrors: neither the token nor a signed URL is in an error.
func TestErrors(t *testing.T) {
	t.Parallel()
	s := actionscachetest.New(t)
	c := open(t, s, "x")
	c.o.Token += "secret"
	for _, at := range []string{s.URL, "http://127.0.0.1:1/secret?sig=secret", "http://secret\x00"} {
		c.o.URL = at
		if _, err := c.Indexes(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
	for _, token := range []string{"", "secret", "a.b.c", "secret.e30.c", "a.eyJhYyI6IltdIn0.c"} {
		if _, err := New(Options{Token: token}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", token, err)
		}
	}
}
