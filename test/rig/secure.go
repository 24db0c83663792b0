package rig

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// User and Password are whom the registries with passwords know; the htpasswd line is theirs by bcrypt.
const (
	User     = "alice"
	Password = "correct horse"
	htpasswd = User + ":$2a$04$0nKMkVxieBG9SSDSJ7hl3.GOl2zmoZG5UltTeYbE.vZgnt39KT5Ja\n"
)

// Authority is a certificate authority of the tests' own.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	PEM  []byte // its certificate
}

// NewAuthority makes one.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mica tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// sign signs a hash as JSON Web Signatures are (RFC 7518, 3.4).
func (a *Authority) sign(hash []byte) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, a.key, hash)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out, nil
}

// Files writes a certificate for servers on loopback and for clients, and its key, into dir.
func (a *Authority) Files(dir string) (cert, key string, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		return "", "", err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return "", "", err
	}
	return cert, key, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600)
}

// CertsDirectory makes a directory of the form of certs.d in which a host is known by this authority.
func (a *Authority) CertsDirectory(dir, host string) (string, error) {
	of := filepath.Join(dir, "certs.d", host)
	if err := os.MkdirAll(of, 0o755); err != nil {
		return "", err
	}
	return filepath.Dir(of), os.WriteFile(filepath.Join(of, "ca.crt"), a.PEM, 0o600)
}

// SecureRegistry is Debian's docker-registry, over TLS, for those who have a password.
type SecureRegistry struct {
	Registry
	CA      string // file of the certificate of its authority
	CertsD  string // directory of the form of certs.d that knows it
	Trusted *x509.CertPool
}

// StartSecureRegistry starts an empty registry over TLS, with User and Password, that keeps its files in dir.
func StartSecureRegistry(dir string) (*SecureRegistry, error) {
	ca, err := NewAuthority()
	if err != nil {
		return nil, err
	}
	cert, key, err := ca.Files(dir)
	if err != nil {
		return nil, err
	}
	users := filepath.Join(dir, "htpasswd")
	s := &SecureRegistry{CA: filepath.Join(dir, "ca.crt"), Trusted: x509.NewCertPool()}
	s.Trusted.AddCert(ca.cert)
	for path, data := range map[string][]byte{users: []byte(htpasswd), s.CA: ca.PEM} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return nil, err
		}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Trusted, MinVersion: tls.VersionTLS12}}}
	r, err := startRegistry(dir, "https", client, fmt.Sprintf("tls: {certificate: %q, key: %q}", cert, key),
		fmt.Sprintf("auth:\n  htpasswd: {realm: tests, path: %q}", users))
	if err != nil {
		return nil, err
	}
	s.Registry = *r
	s.CertsD, err = ca.CertsDirectory(dir, r.Addr)
	return s, err
}

// startRegistry starts a docker-registry with more lines in the section http, and more sections.
func startRegistry(dir, scheme string, client *http.Client, web, more string) (*Registry, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	r := &Registry{Addr: fmt.Sprintf("127.0.0.1:%d", port)}
	config := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %q}\nhttp:\n  addr: %q\n  %s\n%s\n",
		filepath.Join(dir, "registry"), r.Addr, web, more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	r.server, err = startServer(dir, "docker-registry", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+r.Addr+"/v2/", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}, "serve", config)
	return r, err
}
