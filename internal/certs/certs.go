// Package certs gives processes in a container the certificate authorities that the host trusts, in the forms that programs
// read: a bundle, a directory, a Java key store, and the environment variables that name them.
package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// Bundle is a list of authorities.
type Bundle struct{ certs []*x509.Certificate }

// Files are the paths of systems' bundles, in the order of Go (crypto/x509 root_linux.go).
func Files() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/ssl/cert.pem",
	}
}

// MaxFile bounds a file of certificates, in bytes.
const MaxFile = 16 << 20

// Host reads the authorities that this host trusts: those of $SSL_CERT_FILE and $SSL_CERT_DIR if they are set, else the system's
// bundle.
func Host() (*Bundle, error) {
	b := &Bundle{}
	file, dirs := os.Getenv("SSL_CERT_FILE"), os.Getenv("SSL_CERT_DIR")
	if file != "" {
		if err := b.read(file); err != nil {
			return nil, fmt.Errorf("certificates of the host: %w", err)
		}
	}
	for _, dir := range filepath.SplitList(dirs) {
		if err := b.readDir(dir); err != nil {
			return nil, fmt.Errorf("certificates of the host: %w", err)
		}
	}
	if file == "" && dirs == "" {
		for _, name := range Files() {
			if err := b.read(name); err == nil {
				break
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("certificates of the host: %w", err)
			}
		}
	}
	if len(b.certs) == 0 {
		return nil, errors.New("this host trusts no certificate authority: install ca-certificates, or set SSL_CERT_FILE")
	}
	return b, nil
}

func (b *Bundle) readDir(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if err := b.read(path); err != nil {
			return err
		}
	}
	return nil
}

// read adds the certificates of a file, and nothing else that is in it, such as keys.
func (b *Bundle) read(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.Size() > MaxFile {
		return fmt.Errorf("%s has %d bytes, more than the %d of a bundle", name, info.Size(), MaxFile)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil
		}
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue // Go does not trust on this host what it cannot parse
		}
		if !slices.ContainsFunc(b.certs, c.Equal) {
			b.certs = append(b.certs, c)
		}
	}
}

// The files that Write makes.
const (
	bundleName    = "ca-certificates.crt"
	directoryName = "certs"
	storeName     = "truststore.p12"
	aptName       = "apt.conf"

	storePassword = "changeit" // Java's own default; there is nothing secret in the store
)

// Write writes the authorities to a directory that processes see as target. Env names its files.
func (b *Bundle) Write(dir, target string) error {
	directory := filepath.Join(dir, directoryName)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	var all strings.Builder
	seen := map[string]int{}
	for _, c := range b.certs {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		all.Write(text)
		// OpenSSL finds a certificate by the hash of its subject and a number for each certificate of the subject.
		hash := subjectHash(c.RawSubject)
		name := fmt.Sprintf("%s.%d", hash, seen[hash])
		seen[hash]++
		if err := os.WriteFile(filepath.Join(directory, name), text, 0o644); err != nil {
			return err
		}
	}
	// Every Java from 8 on reads LegacyDES.
	keys, err := pkcs12.LegacyDES.EncodeTrustStoreEntries(b.entries(), storePassword)
	if err != nil {
		return fmt.Errorf("write key store: %w", err)
	}
	apt := fmt.Sprintf("Acquire::https::CAInfo %q;\n", filepath.Join(target, bundleName))
	for name, data := range map[string][]byte{bundleName: []byte(all.String()), storeName: keys, aptName: []byte(apt)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// entries returns the authorities with different names: a key store has each name once.
func (b *Bundle) entries() []pkcs12.TrustStoreEntry {
	entries := make([]pkcs12.TrustStoreEntry, len(b.certs))
	for i, c := range b.certs {
		entries[i] = pkcs12.TrustStoreEntry{Cert: c, FriendlyName: fmt.Sprintf("%x", sha256.Sum256(c.Raw))}
	}
	return entries
}

// Env adds the variables that name the authorities in target to an environment. It keeps variables that are set, but appends to
// Java's options.
func Env(env []string, target string) []string {
	bundle := filepath.Join(target, bundleName)
	set := map[string]bool{}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		set[name] = true
	}
	out := slices.Clone(env)
	for _, v := range []struct{ name, value string }{
		{"SSL_CERT_FILE", bundle}, // OpenSSL, Go, Ruby, Rust's native roots
		{"SSL_CERT_DIR", filepath.Join(target, directoryName)},
		{"CURL_CA_BUNDLE", bundle},
		{"GIT_SSL_CAINFO", bundle},
		{"PIP_CERT", bundle},
		{"REQUESTS_CA_BUNDLE", bundle}, // Python's requests
		{"NODE_EXTRA_CA_CERTS", bundle},
		{"NPM_CONFIG_CAFILE", bundle},
		{"CARGO_HTTP_CAINFO", bundle},
		{"APT_CONFIG", filepath.Join(target, aptName)},
	} {
		if !set[v.name] {
			out = append(out, v.name+"="+v.value)
		}
	}
	java := "-Djavax.net.ssl.trustStore=" + filepath.Join(target, storeName) +
		" -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword=" + storePassword
	const options = "JAVA_TOOL_OPTIONS"
	for i, e := range out {
		if value, ok := strings.CutPrefix(e, options+"="); ok {
			if !strings.Contains(value, "javax.net.ssl.trustStore=") {
				out[i] = e + " " + java
			}
			return out
		}
	}
	return append(out, options+"="+java)
}
