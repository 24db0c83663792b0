package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"
)

// authority makes a certificate authority's certificate.
func authority(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

// TestSubjectHash compares with the names that OpenSSL gave the certificates of this system.
func TestSubjectHash(t *testing.T) {
	links, err := filepath.Glob("/etc/ssl/certs/*.[0-9]")
	if err != nil || len(links) < 50 {
		t.Fatalf("%d hashed certificates in /etc/ssl/certs: the package ca-certificates is needed (%v)", len(links), err)
	}
	for _, link := range links {
		data, err := os.ReadFile(link)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue // Go refuses some that OpenSSL takes
		}
		if got, want := subjectHash(c.RawSubject), strings.Split(filepath.Base(link), ".")[0]; got != want {
			t.Errorf("%s has the hash %s, OpenSSL says %s", c.Subject, got, want)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "host.pem")
	one, other := authority(t, "One"), authority(t, "Other")
	key := "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
	text := slices.Concat([]byte("# comment\n"), one, []byte(key), other, one, authority(t, "One"))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	t.Setenv("SSL_CERT_DIR", "")
	b, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if err := b.Write(out, "/there"); err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile(filepath.Join(out, bundleName))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(bundle), "BEGIN CERTIFICATE"); n != 3 || strings.Contains(string(bundle), "PRIVATE") {
		t.Errorf("the bundle has %d certificates:\n%s", n, bundle)
	}
	hashed, err := os.ReadDir(filepath.Join(out, directoryName))
	if err != nil || len(hashed) != 3 {
		t.Errorf("%v %v", hashed, err)
	}
	for _, f := range hashed {
		if !regexp.MustCompile(`^[0-9a-f]{8}\.[01]$`).MatchString(f.Name()) {
			t.Errorf("a file is called %s", f.Name())
		}
	}
	keys, err := os.ReadFile(filepath.Join(out, storeName))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := pkcs12.DecodeTrustStore(keys, storePassword); err != nil || len(list) != 3 {
		t.Errorf("the key store has %d certificates: %v", len(list), err)
	}
}

func TestNoAuthorities(t *testing.T) {
	t.Setenv("SSL_CERT_FILE", "")
	t.Setenv("SSL_CERT_DIR", t.TempDir())
	if _, err := Host(); err == nil || !strings.Contains(err.Error(), "trusts no certificate authority") {
		t.Error(err)
	}
	t.Setenv("SSL_CERT_FILE", "/missing")
	if _, err := Host(); err == nil || !strings.Contains(err.Error(), "/missing") {
		t.Error(err)
	}
}

// TestEnv: what a user has set stays.
func TestEnv(t *testing.T) {
	env := Env([]string{"PATH=/bin", "PIP_CERT=/mine", "JAVA_TOOL_OPTIONS=-Xmx1g"}, "/there")
	for _, want := range []string{"PATH=/bin", "PIP_CERT=/mine", "SSL_CERT_FILE=/there/ca-certificates.crt", "APT_CONFIG=/there/apt.conf"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not in %q", want, env)
		}
	}
	java := slices.DeleteFunc(slices.Clone(env), func(e string) bool { return !strings.HasPrefix(e, "JAVA_TOOL_OPTIONS=") })
	if len(java) != 1 || !strings.HasPrefix(java[0], "JAVA_TOOL_OPTIONS=-Xmx1g -Djavax.net.ssl.trustStore=/there/truststore.p12") {
		t.Errorf("Java's options are %q", java)
	}
	if again := Env(env, "/there"); !slices.Equal(again, env) {
		t.Errorf("it is not the same again: %q", again)
	}
}
