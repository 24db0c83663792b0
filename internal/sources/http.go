package sources

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/urlutil"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/version"
)

// file is the source of a file over http.
type file struct {
	f        *Fetcher
	url      string
	checksum digest.Digest // "" for any
	placed                 // without a name it is that of the response or the URL
	header   map[string]string
	secretID string // of the Authorization header, "" for those of the host
	// signature is nil for none that is demanded.
	signature *fileSignature

	asked         bool // the client, for the secret
	askErr        error
	authorization string // the header, "" for none

	got  *entry
	temp *store.Temp // has the content after a download of this source
	kept bool        // Pin has left the content to the Fetcher
}

// entry is what is known of a URL's content. Entries with a validator are kept in cache/http.
type entry struct {
	Digest       digest.Digest `json:"digest"`
	Name         string        `json:"name"`
	ETag         string        `json:"etag,omitempty"`
	LastModified string        `json:"lastModified,omitempty"`
}

// The headers that a front end may set (BuildKit, source/http/identifier.go).
var allowedHeaders = []string{"Accept", "User-Agent"}

func (f *Fetcher) newFile(rawURL string, attrs map[string]string) (*file, error) {
	s := &file{f: f, url: rawURL, placed: placed{perm: 0o600}, header: map[string]string{}}
	var err error
	number := func(v string) int {
		n, parseErr := strconv.ParseInt(v, 0, 32)
		err = errors.Join(err, parseErr)
		return int(n)
	}
	for k, v := range attrs {
		switch k {
		case pb.AttrHTTPChecksum:
			s.checksum, err = digest.Parse(v)
		case pb.AttrHTTPFilename:
			s.name = v
		case pb.AttrHTTPPerm:
			s.perm = os.FileMode(number(v))
		case pb.AttrHTTPUID:
			s.uid = number(v)
		case pb.AttrHTTPGID:
			s.gid = number(v)
		case pb.AttrHTTPAuthHeaderSecret:
			s.secretID = v
		default:
			if name, ok := strings.CutPrefix(k, pb.AttrHTTPHeaderPrefix); ok && slices.Contains(allowedHeaders, http.CanonicalHeaderKey(name)) {
				s.header[http.CanonicalHeaderKey(name)] = v
			}
		}
		if err != nil {
			return nil, s.fail(fmt.Errorf("attribute %s: %w", k, err))
		}
	}
	if s.signature, err = readFileSignature(attrs); err != nil {
		return nil, s.fail(err)
	}
	return s, nil
}

// fail returns an error that names the URL without its credentials.
func (s *file) fail(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // which would repeat the URL
	}
	return fmt.Errorf("%s: %w", urlutil.RedactCredentials(s.url), err)
}

// Pin requests the file, unless the Dockerfile has its checksum. It verifies the signature.
func (s *file) Pin(ctx context.Context) (string, error) {
	var err error
	if s.checksum != "" {
		s.got = &entry{Digest: s.checksum, Name: s.fileName(nil)}
	} else {
		s.got, err = s.f.files.do(ctx, s.key(), func() (*entry, error) { return s.find(ctx) })
	}
	if err == nil {
		err = s.verifySignature(ctx)
	}
	if err != nil {
		return "", s.fail(err)
	}
	return s.pin(), nil
}

// find finds out what the URL has now. What it has downloaded for that is kept by the Fetcher.
func (s *file) find(ctx context.Context) (*entry, error) {
	if known := s.remembered(); known != nil && s.unchanged(ctx, known) {
		return known, nil
	}
	if err := s.download(ctx); err != nil {
		return nil, err
	}
	s.f.keep(s.key(), &download{s.got.Digest, s.temp})
	s.temp, s.kept = nil, true
	return s.got, nil
}

// Identity returns the file's name, digest and time.
func (s *file) Identity() Identity {
	is := Identity{Name: s.got.Name, Digest: s.got.Digest}
	if at, err := http.ParseTime(s.got.LastModified); err == nil {
		is.Modified = &at
	}
	return is
}

// pin returns a hash of the content and of everything else that the file will have.
func (s *file) pin() string {
	parts := []string{s.got.Digest.String(), s.got.Name, s.got.LastModified, fmt.Sprintf("%o %d %d", s.perm, s.uid, s.gid)}
	return key(parts...)
}

// Fetch downloads the file, unless Pin has, and verifies its digest.
func (s *file) Fetch(ctx context.Context, dir string) error {
	s.temp, s.kept = s.f.take(s.key(), s.got.Digest), false
	if s.temp == nil {
		want := *s.got
		if err := s.download(ctx); err != nil {
			return s.fail(err)
		}
		if s.got.Digest != want.Digest {
			return fmt.Errorf("digest mismatch for %s: %s (expected: %s)", urlutil.RedactCredentials(s.url), s.got.Digest, want.Digest)
		}
		s.got.Name = want.Name
	}
	to := filepath.Join(dir, s.got.Name)
	if err := os.Rename(s.content(), to); err != nil {
		return s.fail(err)
	}
	at := time.Unix(0, 0)
	if t, err := http.ParseTime(s.got.LastModified); err == nil {
		at = t
	}
	if err := s.apply(to, at); err != nil {
		return s.fail(err)
	}
	return nil
}

// Close removes a download that was not used.
func (s *file) Close() error {
	if s.kept {
		s.temp, s.kept = s.f.take(s.key(), s.got.Digest), false
	}
	if s.temp == nil {
		return nil
	}
	return s.temp.Remove()
}

func (s *file) content() string { return contentOf(s.temp) }

// contentOf is the file of a download.
func contentOf(t *store.Temp) string { return filepath.Join(t.Path, "content") }

func (s *file) client() *http.Client {
	if s.f.Client != nil {
		return s.f.Client
	}
	return http.DefaultClient
}

func (s *file) request(ctx context.Context, method string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", version.BuildUserAgent())
	for k, v := range s.header {
		req.Header.Set(k, v)
	}
	if s.Ask(ctx); s.askErr != nil {
		return nil, s.askErr
	}
	if s.authorization != "" {
		req.Header.Set("Authorization", s.authorization)
	}
	return req, nil
}

// Asks reports whether a request needs a secret.
func (s *file) Asks() bool { return !s.asked && s.f.Secret != nil }

// Ask asks for the secret, once.
func (s *file) Ask(ctx context.Context) {
	if s.asked {
		return
	}
	s.asked = true
	s.authorization, s.askErr = s.readSecret(ctx)
}

// readSecret returns the Authorization header, "" for none. As in BuildKit it is the secret that the build names, or one with the host's name.
func (s *file) readSecret(ctx context.Context) (header string, err error) {
	u, err := url.Parse(s.url)
	if err != nil {
		return "", err
	}
	ids := []string{"HTTP_AUTH_HEADER_" + u.Hostname(), "HTTP_AUTH_TOKEN_" + u.Hostname()}
	if s.secretID != "" {
		ids = []string{s.secretID}
	}
	for _, id := range ids {
		value, ok, err := s.f.secret(ctx, id)
		if err != nil {
			return "", err
		}
		if !ok && s.secretID != "" {
			return "", fmt.Errorf("secret %s: not found: give it with --secret id=%s", id, id)
		}
		if ok && strings.HasPrefix(id, "HTTP_AUTH_TOKEN_") {
			value = "Bearer " + value
		}
		if ok {
			header = strings.TrimSpace(value)
		}
	}
	return header, nil
}

// unchanged reports whether the content still has the validator of an entry. HEAD comes first: some servers have ETags and do
// not compare them.
func (s *file) unchanged(ctx context.Context, known *entry) bool {
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		req, err := s.request(ctx, method)
		if err != nil {
			return false
		}
		if method == http.MethodHead {
			req.Header.Set("Accept-Encoding", "gzip") // as in Go's own GET: the ETag may depend on it
		}
		req.Header.Set("If-None-Match", known.ETag)
		resp, err := s.client().Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		tag := resp.Header.Get("ETag")
		switch {
		case resp.StatusCode == http.StatusNotModified && (tag == "" || tag == known.ETag):
			return true
		case resp.StatusCode == http.StatusOK:
			return tag == known.ETag
		}
	}
	return false
}

// tries is the number of attempts at a download whose connection breaks.
const tries = 3

// download writes the content to a temporary directory.
func (s *file) download(ctx context.Context) (err error) {
	if s.temp, err = s.f.Store.TempDir("http"); err != nil {
		return err
	}
	for n := range tries {
		var broken bool
		broken, err = s.get(ctx)
		if err == nil || !broken || ctx.Err() != nil || n == tries-1 {
			break
		}
	}
	if err != nil {
		return err
	}
	s.remember()
	return nil
}

// get requests the file once. broken reports whether another try may help.
func (s *file) get(ctx context.Context) (broken bool, err error) {
	req, err := s.request(ctx, http.MethodGet)
	if err != nil {
		return false, err
	}
	resp, err := s.client().Do(req)
	if err != nil {
		return true, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		return resp.StatusCode >= 500, fmt.Errorf("invalid response status %d", resp.StatusCode)
	}
	out, err := os.OpenFile(s.content(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false, err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), resp.Body)
	if err := errors.Join(err, out.Close()); err != nil {
		return !errors.Is(err, quota.ErrExceeded), err
	}
	s.got = &entry{
		Digest: digest.NewDigest(digest.SHA256, h), Name: s.fileName(resp),
		ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"),
	}
	return false, nil
}

// fileName returns the name of the file: of the build, else of the response, else the end of the URL.
func (s *file) fileName(resp *http.Response) string {
	if s.name != "" {
		return safeName(s.name)
	}
	if resp != nil {
		_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
		if name := params["filename"]; err == nil && name != "" && !strings.HasSuffix(name, "/") {
			return safeName(name)
		}
	}
	if u, err := url.Parse(s.url); err == nil {
		return safeName(u.Path)
	}
	return safeName("")
}

// safeName returns the last element of a path as a name for a file.
func safeName(name string) string {
	base := path.Base(path.Clean("/" + name))
	if base == "/" || base == "." || base == ".." || strings.ContainsRune(base, 0) {
		return "download"
	}
	return base
}

// entryPath returns where the entry of the URL is kept.
func (s *file) entryPath() string { return s.f.Store.Path("cache", "http", s.key()) }

// key names the URL with what a request for it says.
func (s *file) key() string {
	parts := []string{s.url, s.name, s.secretID}
	for _, k := range slices.Sorted(maps.Keys(s.header)) {
		parts = append(parts, k, s.header[k])
	}
	return key(parts...)
}

// remembered returns the entry of the URL, nil if there is none with a validator.
func (s *file) remembered() *entry {
	data, err := os.ReadFile(s.entryPath())
	known := &entry{}
	if err != nil || json.Unmarshal(data, known) != nil || known.Digest.Validate() != nil || known.ETag == "" || known.Name != safeName(known.Name) {
		return nil
	}
	return known
}

// remember keeps the entry for the next build. Without it the file is downloaded again: errors do not matter.
func (s *file) remember() {
	if s.got.ETag == "" {
		return
	}
	data, err := json.Marshal(s.got)
	if err == nil && os.MkdirAll(filepath.Dir(s.entryPath()), 0o700) == nil {
		_ = s.f.Store.WriteFileAtomic(s.entryPath(), data)
	}
}
