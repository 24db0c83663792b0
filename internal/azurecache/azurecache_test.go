package azurecache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/azurecache/azurecachetest"
	"github.com/micabuild/mica/internal/registry"
)

func open(t *testing.T, o Options) *Cache {
	t.Helper()
	o.Account, o.Container, o.Prefix, o.Blobs, o.Manifests = azurecachetest.Account, "cache", "p/", "blobs", "manifests"
	o.Names = []string{"one", "a two"}
	o.Objects = registry.New(registry.Options{FirstWait: time.Millisecond}).Objects()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// blob is a blob of a size.
func blob(size int) ([]byte, ocispec.Descriptor) {
	data := bytes.Repeat([]byte("mica"), size/4+1)[:size]
	return data, ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(size)}
}

// TestExchange: blobs of no, one and several blocks and manifests come back, with a key and with a signature, where no container was.
func TestExchange(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(*azurecachetest.Server) Options{
		"key":       func(s *azurecachetest.Server) Options { return Options{URL: s.URL + "/", Key: s.Key} },
		"signature": func(s *azurecachetest.Server) Options { return Options{URL: s.URL + "?" + s.SAS} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := azurecachetest.New(t)
			c := open(t, options(s))
			if _, err := c.Manifest(t.Context()); !errors.Is(err, errdef.ErrNotFound) {
				t.Fatal(err)
			}
			for _, size := range []int{0, 1, singlePut, 2*singlePut + 7} {
				exchange(t, c, size)
			}
			if err := c.PutManifest(t.Context(), []byte("{}")); err != nil {
				t.Fatal(err)
			}
			if got, err := c.Manifest(t.Context()); err != nil || string(got) != "{}" {
				t.Errorf("%q, %v", got, err)
			}
			if list := s.Blobs(); !slices.Contains(list, "cache/p/manifests/a two") || !slices.Contains(list, "cache/p/blobs/"+string(digest.FromString("m"))) {
				t.Errorf("not where BuildKit looks: %q", list)
			}
		})
	}
}

func exchange(t *testing.T, c *Cache, size int) {
	t.Helper()
	data, d := blob(size)
	if ok, err := c.Exists(t.Context(), d); ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := c.Fetch(t.Context(), d); size > 0 && !errors.Is(err, errdef.ErrNotFound) {
		t.Fatal(err)
	}
	if err := c.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if ok, err := c.Exists(t.Context(), d); !ok || err != nil {
		t.Fatal(ok, err)
	}
	r, err := c.Fetch(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes, %v", len(got), size, err)
	}
	_ = r.Close()
}

// TestFaults: what could not be written whole is not there, what passes is tried again, and an upload that another has ended first is no error.
func TestFaults(t *testing.T) {
	t.Parallel()
	data, d := blob(singlePut + 1)
	list := func(r *http.Request) bool { return r.URL.Query().Get("comp") == "blocklist" }
	for name, c := range map[string]struct {
		data  []byte
		fault func(*azurecachetest.Server, *http.Request) string
		err   string
	}{
		"short":  {data: data[:5], err: "EOF"},
		"other":  {data: append(bytes.Clone(data[1:]), 0), err: "digest"},
		"denied": {data: data, err: "AuthenticationFailed", fault: func(*azurecachetest.Server, *http.Request) string { return "AuthenticationFailed" }},
		"no blocks": {data: data, err: "InvalidBlockList", fault: func(_ *azurecachetest.Server, r *http.Request) string {
			if list(r) {
				return "InvalidBlockList"
			}
			return ""
		}},
		"busy": {data: data, fault: func() func(*azurecachetest.Server, *http.Request) string {
			n := 0
			return func(*azurecachetest.Server, *http.Request) string {
				if n++; n%2 == 1 {
					return "ServerBusy"
				}
				return ""
			}
		}()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := azurecachetest.New(t)
			cache := open(t, Options{URL: s.URL, Key: s.Key})
			if c.fault != nil {
				s.Fault = func(r *http.Request) string { return c.fault(s, r) }
			}
			err := cache.Push(t.Context(), d, bytes.NewReader(c.data))
			if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), s.Key)) {
				t.Errorf("%v, want %q", err, c.err)
			}
			if n := len(s.Blobs()); (n == 1) != (c.err == "") {
				t.Errorf("%d blobs", n)
			}
		})
	}
}

// TestOtherWriter: blocks that the upload of another has dropped are no error if its blob is there.
func TestOtherWriter(t *testing.T) {
	t.Parallel()
	s := azurecachetest.New(t)
	c := open(t, Options{URL: s.URL, Key: s.Key})
	data, d := blob(singlePut + 1)
	if err := c.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	s.Fault = func(r *http.Request) string {
		if r.URL.Query().Get("comp") == "blocklist" {
			return "InvalidBlockList"
		}
		return ""
	}
	if err := c.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
}

// TestInvalidOptions: what cannot be used is an error that has no credentials.
func TestInvalidOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{URL: "https://a.blob.core.windows.net", Container: "c"},
		{URL: "https://a.blob.core.windows.net", Container: "c", Key: "secret?"},
		{URL: "https://a.blob.core.windows.net", Container: "c/d", Key: "c2VjcmV0"},
		{URL: "https://a.blob.core.windows.net", Container: "..", Key: "c2VjcmV0"},
		{URL: "https://user:secret@host", Container: "c", Key: "c2VjcmV0"},
		{URL: "file:///secret", Container: "c", Key: "c2VjcmV0"},
		{Container: "c", Key: "c2VjcmV0"},
	} {
		if _, err := New(o); err == nil || strings.Contains(fmt.Sprint(err), "secret") && !strings.Contains(fmt.Sprint(err), "secret_access_key") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
