package registry_test

import (
	"encoding/pem"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// reached returns a client whose settings are a's alone.
func reached(a registry.Access) *registry.Client {
	return registry.New(registry.Options{Docker: configfile.New(""), RegistriesConf: os.DevNull, FirstWait: time.Millisecond, Access: a})
}

// Mirrors are tried in their order and then the host, which is left out of pulls, and never out of pushes, by MirrorsOnly.
func TestAccessMirrors(t *testing.T) {
	t.Parallel()
	m, first, second := registrytest.New(t), registrytest.New(t), registrytest.New(t)
	putImage(m, "app")
	putImage(m, "own")
	putImage(second, "cache/app")
	a := registry.Access{Mirrors: map[string][]string{m.Addr: {first.Addr, second.Addr + "/cache/"}}}
	for name, want := range map[string]string{"app:1": second.Addr, "own:1": m.Addr} {
		if from, err := fetch(t, reached(a), m.Name(name)); err != nil || from != want {
			t.Errorf("%s from %s, want %s: %v", name, from, want, err)
		}
	}
	a.MirrorsOnly = true
	c := reached(a)
	if from, err := fetch(t, c, m.Name("own:1")); err == nil {
		t.Errorf("with mirrors only: from %s", from)
	}
	if from, err := fetch(t, c, m.Name("app:1")); err != nil || from != second.Addr {
		t.Errorf("with mirrors only: from %s: %v", from, err)
	}
	if to := open(t, c, m.Name("new:1")).Registry(); to != m.Addr {
		t.Errorf("a push goes to %s", to)
	}
	if from, err := fetch(t, c, first.Name("app:1")); err == nil || from != first.Addr {
		t.Errorf("a host without mirrors: from %s: %v", from, err)
	}
	a.Mirrors[m.Addr] = []string{"no host"}
	if _, err := fetch(t, reached(a), m.Name("app:1")); err == nil || !strings.Contains(err.Error(), "invalid mirror") {
		t.Errorf("an invalid mirror: %v", err)
	}
}

// Blobs come from a mirror that has them, and else from the host.
func TestAccessBlobs(t *testing.T) {
	t.Parallel()
	m, mirror := registrytest.New(t), registrytest.New(t)
	layer := m.PutBlob("app", registrytest.TypeLayer, []byte("blob"))
	d := ocispec.Descriptor{MediaType: layer.MediaType, Digest: digest.Digest(layer.Digest), Size: int64(layer.Size)}
	c := reached(registry.Access{Mirrors: map[string][]string{m.Addr: {mirror.Addr}}})
	open := func() error {
		raw, err := c.OpenBlob(t.Context(), m.Name("app"), d)
		if err != nil {
			return err
		}
		defer func() { _ = raw.Close() }()
		_, err = io.Copy(io.Discard, raw)
		return err
	}
	if err := open(); err != nil {
		t.Errorf("from the host: %v", err)
	}
	mirror.PutBlob("app", registrytest.TypeLayer, []byte("blob"))
	m.Misbehave(registrytest.Always(registrytest.Status(500)))
	if err := open(); err != nil {
		t.Errorf("from the mirror: %v", err)
	}
	mirror.Misbehave(registrytest.Always(registrytest.Status(500)))
	if err := open(); err == nil {
		t.Error("a blob from nowhere")
	}
}

// Hosts are trusted with a certificate of their own authority, or without any, if the settings say so.
func TestAccessCertificates(t *testing.T) {
	m := registrytest.NewMemory()
	srv := httptest.NewTLSServer(m)
	t.Cleanup(srv.Close)
	m.AddManifest("app", registrytest.Document{Type: registrytest.TypeIndex, Data: []byte(`{"manifests":[]}`)}, "1")
	host, ca, empty := strings.TrimPrefix(srv.URL, "https://"), filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "empty")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MICA_CERTS_D", t.TempDir())
	of := func(c registry.Certificates) registry.Access {
		return registry.Access{Certificates: map[string]registry.Certificates{host: c}}
	}
	for name, test := range map[string]struct {
		access registry.Access
		fails  string
	}{
		"nothing":     {fails: "certificate"},
		"other host":  {access: registry.Access{Insecure: []string{"other.example"}}, fails: "certificate"},
		"insecure":    {access: registry.Access{Insecure: []string{host}}},
		"all":         {access: registry.Access{InsecureAll: true}},
		"authority":   {access: of(registry.Certificates{Authorities: []string{ca}})},
		"empty":       {access: of(registry.Certificates{Authorities: []string{empty}}), fails: "no certificate in PEM"},
		"missing":     {access: of(registry.Certificates{Authorities: []string{ca + "x"}}), fails: "certificate of " + host},
		"client":      {access: of(registry.Certificates{Certificate: ca, Key: empty}), fails: "client certificate of " + host},
		"without one": {access: of(registry.Certificates{}), fails: "certificate"},
	} {
		_, err := fetch(t, reached(test.access), host+"/app:1")
		if (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
