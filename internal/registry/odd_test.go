package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/micabuild/mica/internal/oci"
)

var (
	someDigest = digest.FromString("x").String()
	long       = "sha512:" + strings.Repeat("ab", 64)
)

// oddManifests are manifests that no tool writes.
var oddManifests = []string{
	``, `null`, `[]`, `7`, `"x"`, `{}`, `{"layers":null}`, `{"config":null,"layers":[null]}`, `{"config":{},"layers":[{}]}`,
	`{"manifests":[null]}`, `{"manifests":null,"layers":null,"config":null}`, `{"manifests":{},"layers":{}}`,
	`{"config":{"digest":"x"}}`, `{"config":{"digest":"` + someDigest + `","size":-1}}`, `{"config":{"digest":"` + long + `"}}`,
	`{"config":{"digest":"` + someDigest + `","size":9223372036854775807},"layers":[{"digest":"` + someDigest + `","size":9223372036854775808}]}`,
	`{"config":{"digest":"` + someDigest + `"},"Config":{"digest":"../../x"},"layers":[]}`,
	`{"config":{"digest":"` + someDigest + `"},"layers":[{"digest":"SHA256:x"}]}`,
	`{"mediaType":"application/vnd.oci.image.index.v1+json","config":{"digest":"` + someDigest + `"}}`,
	`{"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[{"digest":"` + someDigest + `"}]}`,
	`{"subject":{"digest":""}}`, `{"mediaType":7}`, strings.Repeat(`{"layers":[`, 5000),
}

// TestOddManifests are refused, or their descriptors can be used.
func TestOddManifests(t *testing.T) {
	for _, raw := range oddManifests {
		checkManifest(t, []byte(raw))
	}
}

func FuzzManifest(f *testing.F) {
	for _, raw := range oddManifests {
		f.Add([]byte(raw))
	}
	f.Fuzz(checkManifest)
}

func checkManifest(t *testing.T, raw []byte) {
	for _, header := range []string{"", ocispec.MediaTypeImageManifest, oci.DockerManifestList} {
		m := &Manifest{ocispec.Descriptor{Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw}
		if m.setType(header) != nil {
			continue
		}
		c, err := m.Parse()
		if err != nil {
			t.Fatalf("%.100q has a type and cannot be read: %v", raw, err)
		}
		for _, d := range c.Layers {
			if d.Digest.Validate() != nil || d.Size < 0 {
				t.Errorf("%.100q gives the layer %v", raw, d)
			}
		}
		if len(c.Manifests) > 0 && (len(c.Layers) > 0 || c.Config.Digest != "") {
			t.Errorf("%.100q is two things", raw)
		}
	}
	if ids, err := oci.DiffIDs(raw); err == nil {
		for _, id := range ids {
			if id.Validate() != nil {
				t.Errorf("%.100q gives the diff ID %q", raw, id)
			}
		}
	}
}

// TestOddAnswers: a registry may answer with any of these; the error is clear, and no panic.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	for _, raw := range oddManifests {
		_, repo := impatient(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			_, _ = fmt.Fprint(w, raw)
		})
		m, err := repo.FetchManifest(t.Context(), "1")
		if err == nil && len(m.Raw) == 0 {
			t.Errorf("%.100q is a manifest", raw)
		}
	}
}

// FuzzRefusal: what a registry says in whatever form is one line of bounded length.
func FuzzRefusal(f *testing.F) {
	for _, raw := range []string{
		``, `null`, `{"errors":null}`, `{"errors":[null]}`, `{"errors":[{"code":7}]}`, `{"errors":[{"code":"DENIED","message":"a\nb"}]}`,
		`{"message":["x"]}`, `{"error":{"message":"x"}}`, `{"error":"e","error_description":"d"}`, `<html><title>t</title>`, `<`, "\xff\xfe", `<title>&#x0;`,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		resp := &http.Response{
			StatusCode: http.StatusForbidden, Header: http.Header{}, Body: http.NoBody,
			Request: &http.Request{Method: http.MethodGet},
		}
		resp.Body = io.NopCloser(bytes.NewReader(raw))
		readRefusal(resp)
		var refusal *errcode.ErrorResponse
		if !errors.As(responseError(resp), &refusal) {
			t.Fatalf("%.100q is no refusal", raw)
		}
		line := said(refusal)
		if len(line) > maxSaid+len("…") || strings.ContainsAny(line, "\n\r") {
			t.Errorf("%.100q says %q", raw, line)
		}
	})
}
