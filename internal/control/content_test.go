package control

import (
	"errors"
	"testing"

	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// TestMissingBlob: a blob that a client does not have is as one that a registry does not have.
func TestMissingBlob(t *testing.T) {
	t.Parallel()
	files, err := local.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &clientStore{files, "local:x"}
	d := ocispec.Descriptor{Digest: digest.FromString("missing"), Size: 7}
	if _, err := s.Fetch(t.Context(), d); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if there, err := s.Exists(t.Context(), d); there || err != nil {
		t.Errorf("%t, %v", there, err)
	}
}
