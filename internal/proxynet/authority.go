package proxynet

import (
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
	"time"
)

// Authority signs the certificates with which a proxy answers for servers. Its key stays in memory, and ends with the build.
type Authority struct {
	key, leaf *ecdsa.PrivateKey
	cert      *x509.Certificate
}

const (
	authorityName = "mica proxy network"
	// early allows for the clocks of processes that are behind.
	early = time.Hour
	// lifetime bounds the time of a build.
	lifetime = 30 * 24 * time.Hour
	// serialBits is the size of serial numbers (CA/Browser Forum: at least 64 random bits).
	serialBits = 120
)

// NewAuthority makes an authority.
func NewAuthority() (*Authority, error) {
	a := &Authority{}
	for _, key := range []**ecdsa.PrivateKey{&a.key, &a.leaf} {
		made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make certificate authority: %w", err)
		}
		*key = made
	}
	t, err := template(authorityName)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	t.IsCA, t.MaxPathLenZero = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, t, t, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	return a, nil
}

// template is what the authority's certificate and those that it signs have in common.
func template(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-early), NotAfter: now.Add(lifetime), BasicConstraintsValid: true,
	}, nil
}

// PEM is the certificate of the authority.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// certificate returns a certificate for a host, a name or an address. All have one key: they are for one build, and last as long.
func (a *Authority) certificate(host string) (*tls.Certificate, error) {
	t, err := template("")
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{host}
	}
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, a.leaf.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.leaf}, nil
}
