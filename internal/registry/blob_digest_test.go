package registry_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestOpenDigest: the size of a blob is that of the response, with ranges and without.
func TestOpenDigest(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	data := registrytest.Noise(1000)
	m.AddBlob("app", data)
	name := parseName(t, m.Name("app"))
	for what, fault := range map[string]registrytest.Fault{"ranges": nil, "no ranges": registrytest.NoRanges} {
		m.Misbehave(registrytest.On(http.MethodGet, registrytest.Blob, 1, 100, fault))
		r, err := newClient().OpenDigest(t.Context(), name, digest.Digest(registrytest.Digest(data)))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != string(data) || r.Close() != nil {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	m.Behave()
	if _, err := newClient().OpenDigest(t.Context(), name, digest.FromString("x")); err == nil || !strings.Contains(err.Error(), "is not in the repository") {
		t.Errorf("%v", err)
	}
}
