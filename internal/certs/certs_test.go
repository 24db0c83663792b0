package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
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

// TestSubjectHash compares with the hashes of OpenSSL, for all types of strings.
func TestSubjectHash(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/subjects.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		subject, err := hex.DecodeString(f[2])
		if err != nil {
			t.Fatal(err)
		}
		if got := subjectHash(subject); got != f[1] {
			t.Errorf("%s has the hash %s, OpenSSL says %s", f[0], got, f[1])
		}
	}
}

// A subject that is not ASN.1 has a hash as well: nothing panics, and equal ones are equal.
func TestOddSubjects(t *testing.T) {
	t.Parallel()
	for _, subject := range [][]byte{nil, {0}, {0x30, 0x05, 0x31}, []byte("text"), {0x30, 0x02, 0x31, 0x00}, {0x30, 0x04, 0x31, 0x02, 0x30, 0x00}} {
		if got := subjectHash(subject); len(got) != 8 || got != subjectHash(bytes.Clone(subject)) {
			t.Errorf("% x: %s", subject, got)
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

// Without certificates of its own, a file or directory adds none; other files are no reason to fail.
func TestHost(t *testing.T) {
	one, other := authority(t, "One"), authority(t, "Other")
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("broken")})
	trusted := bytes.ReplaceAll(authority(t, "Trusted"), []byte("CERTIFICATE"), []byte("TRUSTED CERTIFICATE"))
	dir := t.TempDir()
	write := func(name string, parts ...[]byte) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, slices.Concat(parts...), 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("one.pem", one)
	write("a/one.pem", one)
	write("a/below/other.pem", other)
	write("a/readme", []byte("text"))
	write("b/other.pem", other)
	mixed := write("mixed.pem", broken, trusted, []byte("text\n"), one)
	large := write("large.pem", one)
	if err := os.Truncate(large, MaxFile+1); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("missing", filepath.Join(dir, "a/dangling")); err != nil {
		t.Fatal(err)
	}
	in := func(names ...string) string {
		for i := range names {
			names[i] = filepath.Join(dir, names[i])
		}
		return strings.Join(names, string(filepath.ListSeparator))
	}
	for name, c := range map[string]struct {
		file, dirs, want string
	}{
		"a file":                  {file, "", "One"},
		"a directory":             {"", in("a"), "One"},
		"two directories":         {"", in("a", "b"), "One Other"},
		"both, each once":         {file, in("a", "b"), "One Other"},
		"what Go does not parse":  {mixed, "", "Trusted One"},
		"a large file":            {large, "", "error: certificates of the host: " + large + " has 16777217 bytes"},
		"a directory for a file":  {dir, "", "error: certificates of the host: read " + dir},
		"a file for a directory":  {"", file, "error: certificates of the host: "},
		"a missing directory":     {file, in("none"), "error: certificates of the host: open " + in("none")},
		"a directory without any": {"", in("a/below/.."), "One"},
	} {
		t.Setenv("SSL_CERT_FILE", c.file)
		t.Setenv("SSL_CERT_DIR", c.dirs)
		b, err := Host()
		var names []string
		if err == nil {
			for _, cert := range b.certs {
				names = append(names, cert.Subject.CommonName)
			}
		} else {
			names = []string{"error:", err.Error()}
		}
		got := strings.Join(names, " ")
		if got != c.want && (err == nil || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestWriteFails(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&Bundle{}).Write(file, "/there"); err == nil {
		t.Error("a bundle is written into a file")
	}
}
