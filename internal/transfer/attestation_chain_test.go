package transfer

import (
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestAttestationChain: the chain of an image has its index, the manifest of its attestations, the statements that are asked for, and the signature.
func TestAttestationChain(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	image := m.PutImage("app", "", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("x")))
	statement := m.PutSignature("app", "", nil, "a statement")
	statement.Platform = map[string]string{"architecture": "unknown", "os": "unknown"}
	statement.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.Digest}
	index := m.PutIndex("app", "1", image, statement)
	m.PutIndex("app", "plain", image)
	c := newClient(t)
	inspect := func(tag string) *AttestationChain {
		t.Helper()
		p, err := Inspect(t.Context(), c.client, parseName(t, m.Name("app:"+tag)))
		if err != nil {
			t.Fatal(err)
		}
		chain, err := p.AttestationChain(t.Context(), nil, []string{""})
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	chain := inspect("1")
	if chain.Image.String() != image.Digest || chain.Attestation.String() != statement.Digest || chain.Signature != "" {
		t.Errorf("%+v", chain)
	}
	for _, d := range []digest.Digest{digest.Digest(index.Digest), chain.Attestation, digest.FromString("a statement")} {
		if b, ok := chain.Blobs[d]; !ok || digest.FromBytes(b.Data) != d || b.Descriptor.Digest != d {
			t.Errorf("%s: %+v", d, b)
		}
	}
	if len(chain.Blobs) != 3 {
		t.Errorf("%d blobs", len(chain.Blobs))
	}
	if chain := inspect("plain"); chain.Attestation != "" || len(chain.Blobs) != 1 {
		t.Errorf("without attestations: %+v", chain)
	}
}
