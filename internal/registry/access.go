package registry

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/distribution/reference"
)

// Access says how hosts are reached, beside registries.conf and certs.d. Hosts are as they are in names of images: "docker.io",
// "registry.example.com:5000". The zero value adds nothing.
type Access struct {
	// Insecure are hosts that may be without TLS, or have a certificate of anybody's; InsecureAll is all of them.
	Insecure    []string
	InsecureAll bool
	// Mirrors are the places that are tried before a host, in this order: a host, or a host and the beginning of paths there. Pushes go to
	// the host itself.
	Mirrors map[string][]string
	// MirrorsOnly pulls nothing from a host that has Mirrors.
	MirrorsOnly bool
	// Certificates are those of hosts.
	Certificates map[string]Certificates
}

// Certificates are files for the connections to a host.
type Certificates struct {
	// Authorities are trusted beside those of the system.
	Authorities []string
	// Certificate and Key are those of this client, "" for none.
	Certificate, Key string
}

func (a *Access) insecure(host string) bool {
	if a.InsecureAll {
		return true
	}
	for _, h := range a.Insecure {
		if h == host {
			return true
		}
	}
	return false
}

// mirrorsOf are the names of an image at the mirrors of its host.
func (a *Access) mirrorsOf(name reference.Named) ([]reference.Named, error) {
	var list []reference.Named
	for _, place := range a.Mirrors[reference.Domain(name)] {
		at, err := reference.WithName(strings.TrimSuffix(place, "/") + "/" + reference.Path(name))
		if err != nil {
			return nil, fmt.Errorf("invalid mirror %q of %s: %w", place, reference.Domain(name), err)
		}
		if tagged, ok := name.(reference.Tagged); ok {
			if at, err = reference.WithTag(at, tagged.Tag()); err != nil {
				return nil, err
			}
		}
		if digested, ok := name.(reference.Digested); ok {
			if at, err = reference.WithDigest(at, digested.Digest()); err != nil {
				return nil, err
			}
		}
		list = append(list, at)
	}
	return list, nil
}

// pullable are those of the endpoints of an image that it may be pulled from.
func (a *Access) pullable(name reference.Named, endpoints []reference.Named) []reference.Named {
	if n := len(a.Mirrors[reference.Domain(name)]); a.MirrorsOnly && n > 0 {
		return endpoints[:n]
	}
	return endpoints
}

// configure adds the certificates of a host.
func (a *Access) configure(host string, config *tls.Config) error {
	c, ok := a.Certificates[host]
	if !ok {
		return nil
	}
	for _, file := range c.Authorities {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("certificate of %s: %w", host, err)
		}
		if config.RootCAs == nil {
			if config.RootCAs, err = x509.SystemCertPool(); err != nil {
				return fmt.Errorf("certificates of the system: %w", err)
			}
		}
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("certificate of %s: %s has no certificate in PEM", host, file)
		}
	}
	if c.Certificate == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return fmt.Errorf("client certificate of %s: %w", host, err)
	}
	config.Certificates = append(config.Certificates, pair)
	return nil
}
