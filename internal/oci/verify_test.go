package oci

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestVerifiedReader(t *testing.T) {
	const text = "some content"
	right := ocispec.Descriptor{Digest: digest.FromString(text), Size: int64(len(text))}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		r    io.Reader
		desc ocispec.Descriptor
		want string // of the error
	}{
		"right":         {strings.NewReader(text), right, ""},
		"byte by byte":  {iotest.OneByteReader(strings.NewReader(text)), right, ""},
		"end with data": {iotest.DataErrReader(strings.NewReader(text)), right, ""},
		"empty":         {strings.NewReader(""), ocispec.Descriptor{Digest: digest.FromString("")}, ""},
		"short":         {strings.NewReader(text[:5]), right, "ends after 5 of 12 bytes"},
		"long":          {strings.NewReader(text + "!"), right, "more than the 12 bytes"},
		"other":         {strings.NewReader("Some content"), right, "digest mismatch"},
		"fails":         {io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), right, "broken"},
	} {
		got, err := io.ReadAll(NewVerifiedReader(c.r, c.desc))
		switch {
		case c.want == "" && (err != nil || !bytes.Equal(got, []byte(text[:c.desc.Size]))):
			t.Errorf("%s: %q, %v", name, got, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		case c.want != "" && int64(len(got)) == c.desc.Size:
			t.Errorf("%s: all bytes were returned", name)
		}
	}
}

func TestLayerTypes(t *testing.T) {
	for _, a := range []string{"none", "gzip", "zstd"} {
		oci := LayerType(a)
		docker := LayerTypeDocker(oci)
		if !IsLayer(oci) || !IsLayer(docker) || docker == oci || LayerTypeOCI(docker) != oci || LayerTypeDocker(docker) != docker {
			t.Errorf("%s: %q and %q", a, oci, docker)
		}
	}
	if got := LayerType("lz4"); got != "" {
		t.Errorf("lz4: %q", got)
	}
	if other := LayerType("xz"); LayerTypeDocker(other) != other || LayerTypeOCI("") != "" {
		t.Error("a type without a counterpart changes")
	}
}
