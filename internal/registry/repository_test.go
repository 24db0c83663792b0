package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

func describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func reopen(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// TestExists with HEAD, and without.
func TestExists(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	data := registrytest.Noise(1000)
	m.AddBlob("app", data)
	manifest := putImage(m, "app")
	for name, fault := range map[string]registrytest.Fault{
		"HEAD": nil, "HEAD is not allowed": registrytest.Status(405), "HEAD is not known": registrytest.Status(501),
		"no header": registrytest.Header("Docker-Content-Digest", ""),
	} {
		m.Misbehave(func(r registrytest.Request) registrytest.Fault {
			if r.Method == http.MethodHead {
				return fault
			}
			return nil
		})
		repo := open(t, newClient(), m.Name("app:1"))
		for d, want := range map[string]bool{
			registrytest.Digest(data): true, manifest.Digest: false, registrytest.Digest(nil): false,
		} {
			if got, err := repo.Exists(t.Context(), ocispec.Descriptor{Digest: digest.Digest(d), Size: 1000}); got != want || err != nil {
				t.Errorf("%s: blob %s: %v, %v", name, d, got, err)
			}
		}
		for d, want := range map[string]bool{manifest.Digest: true, registrytest.Digest(data): false} {
			desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(d)}
			if got, err := repo.Exists(t.Context(), desc); got != want || err != nil {
				t.Errorf("%s: manifest %s: %v, %v", name, d, got, err)
			}
		}
		if _, err := repo.Exists(t.Context(), ocispec.Descriptor{Digest: "md5:x"}); err == nil {
			t.Errorf("%s: an invalid digest is requested", name)
		}
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	want := putImage(m, "app").Digest
	repo := open(t, newClient(), m.Name("app:1"))
	for ref, want := range map[string]string{"1": want, "2": "", want: want} {
		if got := repo.Digest(t.Context(), ref).String(); got != want {
			t.Errorf("%s: %q, want %q", ref, got, want)
		}
	}
	m.Misbehave(registrytest.Always(registrytest.Header("Docker-Content-Digest", "")))
	if got := repo.Digest(t.Context(), "1"); got != "" {
		t.Errorf("without a header: %q", got)
	}
}

func TestFetchManifest(t *testing.T) {
	t.Parallel()
	const sha512 = "sha512:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for name, test := range map[string]struct {
		fault registrytest.Fault
		want  string // of the error; "" for none
	}{
		"good":             {nil, ""},
		"in chunks":        {registrytest.Chunked, ""},
		"no type":          {registrytest.Header("Content-Type", ""), ""},
		"type of a text":   {registrytest.Header("Content-Type", "text/plain; charset=utf-8"), ""},
		"no digest":        {registrytest.Header("Docker-Content-Digest", ""), ""},
		"unknown digest":   {registrytest.Header("Docker-Content-Digest", sha512), "digest mismatch"},
		"another digest":   {registrytest.Header("Docker-Content-Digest", registrytest.Digest(nil)), "digest mismatch"},
		"invalid digest":   {registrytest.Header("Docker-Content-Digest", "../../etc"), "invalid digest"},
		"changed":          {registrytest.Flip(), "digest mismatch|manifest"},
		"huge":             {registrytest.Huge(registrytest.TypeManifest, 5<<20), "more than"},
		"huge, in chunks":  {hugeInChunks, "more than"},
		"not found":        {registrytest.Status(404), "not found"},
		"denied":           {registrytest.Status(403), "403"},
		"no content":       {registrytest.Wrong(registrytest.TypeManifest, nil), "manifest|digest"},
		"an index as well": {registrytest.Wrong(registrytest.TypeManifest, []byte(`{"config":{"digest":"`+registrytest.Digest(nil)+`"},"manifests":[{}]}`)), "ambiguous"},
		"schema 1":         {registrytest.Wrong("application/vnd.docker.distribution.manifest.v1+json", []byte(`{"schemaVersion":1}`)), "schema 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			want := putImage(m, "app").Digest
			m.Misbehave(registrytest.On("GET", registrytest.Manifest, 1, 0, test.fault))
			repo := open(t, newClient(), m.Name("app:1"))
			got, err := repo.FetchManifest(t.Context(), "1")
			if test.want == "" {
				if err != nil || got.Descriptor.Digest.String() != want || got.Descriptor.MediaType != ocispec.MediaTypeImageManifest {
					t.Errorf("manifest %+v, %v", got, err)
				}
				return
			}
			if err == nil || !containsAny(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func containsAny(text, of string) bool {
	return slices.ContainsFunc(strings.Split(of, "|"), func(s string) bool { return strings.Contains(text, s) })
}

func hugeInChunks(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", registrytest.TypeManifest)
	for range 100 {
		if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
			return
		}
	}
}

func TestFetchManifestByDigest(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	d := putImage(m, "app").Digest
	repo := open(t, newClient(), m.Name("app@"+d))
	if repo.Reference() != d {
		t.Errorf("reference %s", repo.Reference())
	}
	if got, err := repo.FetchManifest(t.Context(), d); err != nil || registrytest.Digest(got.Raw) != d {
		t.Errorf("manifest %+v, %v", got, err)
	}
	// The registry has another content under the digest.
	other := m.PutImage("other", "1", "amd64", nil).Digest
	m.AddManifest("app", m.Manifest("other", other), d)
	if _, err := repo.FetchManifest(t.Context(), d); err == nil || !strings.Contains(err.Error(), "digest mismatch") {
		t.Errorf("of another content: %v", err)
	}
	if _, err := repo.FetchManifest(t.Context(), registrytest.Digest(nil)); !registry.IsNotFound(err) {
		t.Errorf("of a digest that is missing: %v", err)
	}
}

func TestFetchAny(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	d := m.PutDocument("app", "", "application/vnd.example+json", map[string]int{"x": 1})
	repo := open(t, newClient(), m.Name("app:1"))
	raw, err := repo.FetchAny(t.Context(), ocispec.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest)})
	if err != nil || string(raw) != `{"x":1}` {
		t.Errorf("%q, %v", raw, err)
	}
	sent := &registry.Manifest{Descriptor: describe("application/vnd.example+json", []byte(`{"x":2}`)), Raw: []byte(`{"x":2}`)}
	if err := repo.PutAny(t.Context(), sent, sent.Descriptor.Digest.String()); err != nil {
		t.Fatal(err)
	}
	if got := m.Manifest("app", sent.Descriptor.Digest.String()); got.Type != d.MediaType || string(got.Data) != `{"x":2}` {
		t.Errorf("the registry has %+v", got)
	}
}

func TestReadBlob(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	data := []byte(`{"config":1}`)
	m.AddBlob("app", data)
	repo := open(t, newClient(), m.Name("app:1"))
	good := describe(ocispec.MediaTypeImageConfig, data)
	inside := describe(ocispec.MediaTypeImageConfig, []byte("inside"))
	inside.Data = []byte("inside")
	huge := good
	huge.Size = 5 << 20
	short := good
	short.Size--
	for name, test := range map[string]struct {
		d     ocispec.Descriptor
		fault func(registrytest.Request) registrytest.Fault
		want  string // of the error; "" for none
	}{
		"good":             {good, nil, ""},
		"in descriptor":    {inside, registrytest.Always(registrytest.Status(500)), ""},
		"damaged once":     {good, registrytest.On("GET", registrytest.Blob, 1, 1, registrytest.Flip()), ""},
		"damaged":          {good, registrytest.Always(registrytest.Flip()), "digest mismatch"},
		"another size":     {short, nil, "the manifest says"},
		"huge":             {huge, nil, "more than"},
		"negative size":    {ocispec.Descriptor{Digest: good.Digest, Size: -1}, nil, "size"},
		"missing":          {describe("", []byte("missing")), nil, "not found"},
		"connection broke": {good, registrytest.On("GET", registrytest.Blob, 1, 3, registrytest.Cut(4)), ""},
	} {
		m.Misbehave(test.fault)
		got, err := repo.ReadBlob(t.Context(), test.d)
		if test.want == "" && (err != nil || digest.FromBytes(got) != test.d.Digest) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
}

func TestOpenBlob(t *testing.T) {
	t.Parallel()
	data := registrytest.Noise(1 << 20)
	for name, test := range map[string]struct {
		from  int64
		fault func(registrytest.Request) registrytest.Fault
		want  string // of the error; "" for none
	}{
		"whole":                    {0, nil, ""},
		"rest":                     {1000, nil, ""},
		"nothing":                  {int64(len(data)), nil, ""},
		"rest without ranges":      {1000, registrytest.Always(registrytest.NoRanges), ""},
		"cut":                      {0, registrytest.On("GET", registrytest.Blob, 1, 4, registrytest.Cut(100_000)), ""},
		"cut without ranges":       {0, cutWithoutRanges, ""},
		"cut at once":              {0, registrytest.On("GET", registrytest.Blob, 1, 4, registrytest.Cut(0)), ""},
		"cut for ever":             {0, registrytest.Always(registrytest.Cut(0)), "broke"},
		"500":                      {0, registrytest.On("GET", registrytest.Blob, 1, 3, registrytest.Status(500)), ""},
		"500 for ever":             {0, registrytest.Always(registrytest.Status(500)), "500"},
		"404":                      {0, registrytest.Always(registrytest.Status(404)), "not found"},
		"longer":                   {0, registrytest.Always(registrytest.Long(1)), "the manifest says"},
		"range of another blob":    {10, registrytest.Always(contentRange("bytes 10-99/100")), "were asked for"},
		"range that starts before": {10, registrytest.Always(contentRange(fmt.Sprintf("bytes 0-%d/%d", len(data)-1, len(data)))), "were asked for"},
		"no range":                 {10, registrytest.Always(contentRange("")), "were asked for"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			m.AddBlob("app", data)
			m.Misbehave(test.fault)
			body := open(t, newClient(), m.Name("app:1")).OpenBlob(t.Context(), describe("", data), test.from)
			got, err := io.ReadAll(body)
			if err := errors.Join(err, body.Close()); test.want == "" && (err != nil || !bytes.Equal(got, data[test.from:])) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func cutWithoutRanges(r registrytest.Request) registrytest.Fault {
	if r.Nth == 1 {
		return registrytest.Cut(100_000)
	}
	return registrytest.NoRanges
}

func contentRange(text string) registrytest.Fault { return registrytest.Header("Content-Range", text) }

// TestClientOpenBlob: by the name of a repository.
func TestClientOpenBlob(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	m.AddBlob("app", []byte("data"))
	c := newClient()
	r, err := c.OpenBlob(t.Context(), m.Name("app"), describe("", []byte("data")))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "data" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.OpenBlob(t.Context(), "NOT A NAME", describe("", nil)); err == nil {
		t.Error("an invalid name is opened")
	}
}

// TestRanges: a large blob comes over several connections if one is slow.
func TestRanges(t *testing.T) {
	t.Parallel()
	data := registrytest.Noise(76 << 20)
	m := registrytest.New(t)
	m.AddBlob("app", data)
	for name, test := range map[string]struct {
		fault registrytest.Fault
		least int // requests with ranges
	}{
		"fast": {nil, 0},
		"slow": {registrytest.SlowLine, 10},
		"slow without ranges": {func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			registrytest.NoRanges(&registrytest.SlowWriter{ResponseWriter: w}, r, next)
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(m.Seen())
			m.Misbehave(func(registrytest.Request) registrytest.Fault { return test.fault })
			body := open(t, newClient(), m.Name("app:1")).OpenBlob(t.Context(), describe("", data), 0)
			hash := digest.SHA256.Digester()
			n, err := io.Copy(hash.Hash(), body)
			if err := errors.Join(err, body.Close()); err != nil || hash.Digest() != digest.FromBytes(data) {
				t.Errorf("%d bytes, %v", n, err)
			}
			ranges := 0
			for _, r := range m.Seen()[before:] {
				if r.Range != "" {
					ranges++
				}
			}
			if ranges < test.least {
				t.Errorf("%d ranges requested, want %d", ranges, test.least)
			}
		})
	}
}

// TestRangesAreClosed: a reader that is closed early returns the buffers of its ranges.
func TestRangesAreClosed(t *testing.T) {
	t.Parallel()
	data := registrytest.Noise(76 << 20)
	m := registrytest.New(t)
	m.AddBlob("app", data)
	m.Misbehave(registrytest.Always(registrytest.SlowLine))
	for range 2 {
		body := open(t, newClient(), m.Name("app:1")).OpenBlob(t.Context(), describe("", data), 0)
		if _, err := io.CopyN(io.Discard, body, 16<<20); err != nil {
			t.Fatal(err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTag(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	d := putImage(m, "app")
	repo := open(t, newClient(), m.Name("app:1"))
	desc := ocispec.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest), Size: int64(d.Size)}
	if err := repo.Tag(t.Context(), desc, "2"); err != nil || registrytest.Digest(m.Manifest("app", "2").Data) != d.Digest {
		t.Errorf("tag 2 is %q, %v", m.Manifest("app", "2").Data, err)
	}
	m.Misbehave(registrytest.On("PUT", registrytest.Manifest, 1, 0, registrytest.Header("Docker-Content-Digest", registrytest.Digest(nil))))
	if err := repo.Tag(t.Context(), desc, "3"); err == nil || !strings.Contains(err.Error(), "changed the manifest") {
		t.Errorf("with another digest: %v", err)
	}
	if err := repo.Tag(t.Context(), ocispec.Descriptor{Digest: "x"}, "4"); err == nil {
		t.Error("an invalid digest is tagged")
	}
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	for name, api := range map[string]bool{"API": true, "tag": false} {
		m := registrytest.New(t)
		m.Referrers = api
		d := putImage(m, "app")
		signature := m.PutSignature("app", "", &d, "signed")
		if !api {
			m.PutIndex("app", strings.Replace(d.Digest, ":", "-", 1), signature, signature)
		}
		desc := ocispec.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest), Size: int64(d.Size)}
		got, err := open(t, newClient(), m.Name("app:1")).Referrers(t.Context(), desc)
		if err != nil || len(got) != 1 || got[0].Digest.String() != signature.Digest {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	m.Page = 3
	var tags, repos []string
	for i := range 10 {
		tags = append(tags, fmt.Sprintf("v%d", i))
		repos = append(repos, fmt.Sprintf("team/app%d", i))
		m.PutRaw("team/app0", tags[i], registrytest.TypeManifest, "{}")
		m.PutRaw(repos[i], "v0", registrytest.TypeManifest, "{}")
	}
	c := newClient()
	if got, err := c.Tags(t.Context(), parseName(t, m.Name("team/app0"))); err != nil || !slices.Equal(got, tags) {
		t.Errorf("tags %v, %v", got, err)
	}
	var got []string
	collect := func(name string) error { got = append(got, name); return nil }
	if err := c.Catalog(t.Context(), m.Addr, collect); err != nil || !slices.Equal(got, repos) {
		t.Errorf("repositories %v, %v", got, err)
	}
	stop := errors.New("stop")
	if err := c.Catalog(t.Context(), m.Addr, func(string) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped: %v", err)
	}
	if n := len(m.Seen(registrytest.Tags)); n < 4 {
		t.Errorf("the tags came in %d pages", n)
	}
	var missing *registry.NotFoundError
	if _, err := c.Tags(t.Context(), parseName(t, m.Name("none"))); !errors.As(err, &missing) {
		t.Errorf("tags of nothing: %v", err)
	}
	if err := c.Catalog(t.Context(), "not a host/", collect); err == nil {
		t.Error("an invalid host is listed")
	}
}
