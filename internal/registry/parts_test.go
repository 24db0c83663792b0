package registry

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestOpenRange: a part of a blob arrives, over several connections if they break; a registry that would send more is not read.
func TestOpenRange(t *testing.T) {
	t.Parallel()
	data := registrytest.Noise(200_000)
	d := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	for name, c := range map[string]struct {
		fault    func(registrytest.Request) registrytest.Fault
		from, to int64
		ok       bool
		want     error
	}{
		"a part":                   {nil, 1000, 150_000, true, nil},
		"the beginning":            {nil, 0, 10, true, nil},
		"the end":                  {nil, 199_990, 200_000, true, nil},
		"all":                      {registrytest.Always(registrytest.NoRanges), 0, 200_000, true, nil},
		"a connection breaks":      {registrytest.On(http.MethodGet, registrytest.Blob, 1, 1, registrytest.Cut(70_000)), 1000, 150_000, true, nil},
		"no ranges":                {registrytest.Always(registrytest.NoRanges), 1000, 150_000, false, ErrNoRanges},
		"no ranges, beginning":     {registrytest.Always(registrytest.NoRanges), 0, 10, false, ErrNoRanges},
		"refused":                  {registrytest.Always(registrytest.Status(http.StatusRequestedRangeNotSatisfiable)), 1000, 150_000, false, ErrNoRanges},
		"another part":             {registrytest.Always(registrytest.Header("Content-Range", "bytes 5-6/200000")), 1000, 150_000, false, nil},
		"of another blob":          {registrytest.Always(registrytest.Header("Content-Range", "bytes 1000-149999/7")), 1000, 150_000, false, nil},
		"nothing":                  {nil, 10, 10, false, nil},
		"behind the end":           {nil, 10, 200_001, false, nil},
		"before the beginning":     {nil, -1, 10, false, nil},
		"it is not there any more": {registrytest.Always(registrytest.Status(http.StatusNotFound)), 1, 10, false, nil},
	} {
		reg := registrytest.New(t)
		reg.AddBlob("app", data)
		client := New(Options{RegistriesConf: os.DevNull, FirstWait: time.Millisecond})
		named, err := reference.ParseNormalizedNamed(reg.Name("app"))
		if err != nil {
			t.Fatal(err)
		}
		repo, err := client.Repository(t.Context(), named)
		if err != nil {
			t.Fatal(err)
		}
		if c.fault != nil {
			reg.Misbehave(c.fault)
		}
		body, err := repo.OpenRange(t.Context(), d, c.from, c.to)
		if (err == nil) != c.ok || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		got, err := io.ReadAll(body)
		if err != nil || !bytes.Equal(got, data[c.from:c.to]) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if err := body.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
