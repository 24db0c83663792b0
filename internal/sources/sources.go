// Package sources fetches the sources of a build that are neither directories of the host nor images: files over http, and git
// repositories. Names, owners, modes, times and pins are those of BuildKit (source/http, source/git).
package sources

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	srctypes "github.com/moby/buildkit/source/types"
	"github.com/moby/buildkit/util/urlutil"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// Source is a file or a commit to be fetched.
type Source interface {
	// Pin identifies the current content. A caller that has fetched the same pin before need not fetch it again.
	Pin(ctx context.Context) (string, error)
	// Identity describes the content that was pinned.
	Identity() Identity
	// Asks reports whether Fetch needs something of the client that the source has not asked for yet: credentials, or a blob. Ask asks for it,
	// before others have to wait for Fetch. An error is one of Fetch.
	Asks() bool
	Ask(ctx context.Context)
	// Fetch writes the content that was pinned to an empty directory.
	Fetch(ctx context.Context, dir string) error
	// Close removes what Pin has downloaded and Fetch did not use.
	Close() error
}

// Identity describes the content of a source: a file or a commit.
type Identity struct {
	Name     string
	Blob     bool // a blob of a registry, or of a store of the client
	Digest   digest.Digest
	Modified *time.Time // nil if it is unknown, or if the build names the digest
	Commit   string
	// Object is what a ref names, and Peeled the commit of one that is an annotated tag.
	Object, Peeled string
	Ref            string // in full
}

// Fetcher opens sources. It keeps what it has learned of URLs and repositories in the store's cache/http and cache/git.
type Fetcher struct {
	Store *store.Store
	// Secret returns the value of a secret by its ID, or fs.ErrNotExist.
	Secret func(ctx context.Context, id string) ([]byte, error)
	// SSH returns the agent that git may use by its ID, nil for none.
	SSH func(ctx context.Context, id string) func(net.Conn)
	// Client sends requests over http; nil for Go's default.
	Client *http.Client
	// Writable lets everybody write the files of git repositories that nobody may execute, as BuildKit did before 0.15.
	Writable bool
	// Blob opens a blob, whose content is not verified yet; nil for a build without blobs.
	Blob func(ctx context.Context, ref BlobRef) (io.ReadCloser, error)

	// What a build has found once is so until its end.
	refs  memo[resolution]
	files memo[*entry]

	mu        sync.Mutex
	downloads map[string]*download
	replaced  []*download
}

// Close removes what was downloaded for its metadata alone.
func (f *Fetcher) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, d := range f.downloads {
		errs = append(errs, d.temp.Remove())
	}
	for _, d := range f.replaced {
		errs = append(errs, d.temp.Remove())
	}
	clear(f.downloads)
	f.replaced = nil
	return errors.Join(errs...)
}

// Open returns the source of an LLB identifier with its attributes (solver/pb, attr.go).
func (f *Fetcher) Open(identifier string, attrs map[string]string) (Source, error) {
	scheme, rest, _ := strings.Cut(identifier, "://")
	switch scheme {
	case "http", "https":
		return f.newFile(identifier, attrs)
	case "git":
		return f.newRepository(rest, attrs)
	case srctypes.DockerImageBlobScheme, srctypes.OCIBlobScheme:
		return f.newBlob(identifier, attrs)
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

// key returns a file name for values that must not be visible in it, such as URLs with credentials.
func key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return digest.NewDigest(digest.SHA256, h).Encoded()
}

// hostOf returns the host of a URL, "" for none.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
