package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"

	"github.com/distribution/reference"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// NotFoundError is the error of a manifest that a registry does not have, in Docker's words.
type NotFoundError struct{ Ref string }

func (e *NotFoundError) Error() string {
	return "manifest for " + e.Ref + " not found: manifest unknown"
}

// DeniedError is the error of a repository that the user may not access, or that does not exist.
type DeniedError struct {
	Host, Ref string
	Said      string // by the registry, "" for nothing
}

func (e *DeniedError) Error() string {
	if e.Said == "" {
		return fmt.Sprintf("access to %s denied: the repository does not exist or needs 'mica login %s'", e.Ref, e.Host)
	}
	return fmt.Sprintf("access to %s denied: %s (the repository may not exist, or need 'mica login %s')", e.Ref, e.Said, e.Host)
}

// Explain makes one line of an error of a registry, or of the way to it. what is what was asked for, as users know it.
func Explain(what string, err error) error {
	var resp *errcode.ErrorResponse
	var denied *DeniedError
	var missing *NotFoundError
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, &denied), errors.As(err, &missing):
		return err
	case errors.As(err, &resp):
		return explainResponse(what, resp)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return &DeniedError{Host: hostOfName(what, what), Ref: what}
	case errors.Is(err, errdef.ErrNotFound):
		return &NotFoundError{what}
	}
	var u *url.Error
	var dns *net.DNSError
	var dial *net.OpError
	switch {
	case errors.As(err, &dns):
		// In the words of the resolver, by which clients of BuildKit know it, and which also tell a server that fails from a name that is
		// not known.
		return fmt.Errorf("%s: registry %s cannot be reached: dial tcp: %w", what, dns.Name, dns)
	case errors.As(err, &dial) && dial.Op == "dial" && errors.As(err, &u):
		return fmt.Errorf("%s: registry %s cannot be reached: %w", what, hostOfURL(u.URL), dial.Err)
	case errors.As(err, &u):
		return fmt.Errorf("%s: %s: %w", what, hostOfURL(u.URL), u.Err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func hostOfURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Host
}

func explainResponse(what string, resp *errcode.ErrorResponse) error {
	says := said(resp)
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &DeniedError{hostOfName(what, resp.URL.Host), what, says}
	case http.StatusNotFound:
		return &NotFoundError{what}
	}
	if says == "" {
		says = http.StatusText(resp.StatusCode)
	}
	return fmt.Errorf("%s: registry %s responds %d: %s", what, resp.URL.Host, resp.StatusCode, says)
}

// hostOfName is the registry of an image: it may be another host that refuses, one that gives tokens.
func hostOfName(name, otherwise string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return otherwise
	}
	return reference.Domain(named)
}

// IsNotFound reports whether a registry does not have what was asked for.
func IsNotFound(err error) bool { return errors.Is(err, errdef.ErrNotFound) }

// IsLocal reports whether an error is one of this machine (a full disk), not of the registry or the network.
func IsLocal(err error) bool {
	// Not net.Error, which errors of the operating system implement, too.
	var path *fs.PathError
	var network *net.OpError
	return errors.As(err, &path) && !errors.As(err, &network)
}
