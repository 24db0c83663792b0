package registry_test

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestCertificates: a registry with a certificate of its own authority is trusted with the directory in certs.d, or if the
// user allows it.
func TestCertificates(t *testing.T) {
	m := registrytest.NewMemory()
	srv := httptest.NewTLSServer(m)
	t.Cleanup(srv.Close)
	m.AddManifest("app", registrytest.Document{Type: registrytest.TypeIndex, Data: []byte(`{"manifests":[]}`)}, "1")
	host := strings.TrimPrefix(srv.URL, "https://")
	name := host + "/app:1"
	t.Setenv("MICA_CERTS_D", t.TempDir())
	if _, err := fetch(t, newClient(), name); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("of an unknown authority: %v", err)
	}
	insecure := newClient()
	insecure.AllowInsecure(parseName(t, name))
	if _, err := fetch(t, insecure, name); err != nil {
		t.Errorf("with AllowInsecure: %v", err)
	}
	dir := filepath.Join(os.Getenv("MICA_CERTS_D"), host)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t, newClient(), name); err != nil {
		t.Errorf("with the directory in certs.d: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.cert"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t, newClient(), name); err == nil || !strings.Contains(err.Error(), "certificates of "+host) {
		t.Errorf("with a certificate without a key on %s: %v", runtime.GOOS, err)
	}
}
