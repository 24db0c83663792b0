// Package sources gets the sources of a build that are neither folders of the host nor images: files over http, and git
// repositories. What BuildKit does (source/http, source/git) is the rule: names, owners, modes, times, pins.
package sources

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/moby/buildkit/util/urlutil"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// Source is one thing that is to be had from elsewhere.
type Source interface {
	// Pin names the content that there is now: whoever has fetched the same pin before need not fetch it again.
	Pin(ctx context.Context) (string, error)
	// Identity is what was pinned.
	Identity() Identity
	// Fetch puts the content that was pinned into an empty folder.
	Fetch(ctx context.Context, dir string) error
	// Close removes what Pin has brought and Fetch did not need.
	Close() error
}

// Identity says what a source was found to be: a file, or a commit.
type Identity struct {
	Name     string
	Digest   digest.Digest
	Modified *time.Time // nil where nobody said, or the build names the digest itself
	Commit   string     // that the pin stands for
	Ref      string     // in full
}

// Fetcher gets sources. What it learns of URLs and repositories it keeps in the store's cache/http and cache/git.
type Fetcher struct {
	Store *store.Store
	// Secret gives the value of a secret by its ID, or fs.ErrNotExist.
	Secret func(ctx context.Context, id string) ([]byte, error)
	// SSH are the agents that git may use, by their IDs.
	SSH map[string]func(net.Conn)
	// Client does what is asked over http; nil for Go's own.
	Client *http.Client
}

// Open finds the source of an LLB identifier with its attributes (solver/pb, attr.go).
func (f *Fetcher) Open(identifier string, attrs map[string]string) (Source, error) {
	scheme, rest, _ := strings.Cut(identifier, "://")
	switch scheme {
	case "http", "https":
		return f.newFile(identifier, attrs)
	case "git":
		return f.newRepository(rest, attrs)
	}
	return nil, fmt.Errorf("%s sources are not supported: %s", scheme, urlutil.RedactCredentials(identifier))
}

// secret returns a secret's value, and whether there is one.
func (f *Fetcher) secret(ctx context.Context, id string) (string, bool, error) {
	if f.Secret == nil {
		return "", false, nil
	}
	data, err := f.Secret(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return string(data), err == nil, err
}

// key names a folder or file after what is not to be seen in a name.
func key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return digest.NewDigest(digest.SHA256, h).Encoded()
}

// hostOf is the host of a URL, "" for none.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
