package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// impatient is a client that waits milliseconds where others wait minutes, and a repository at a server.
func impatient(t *testing.T, handler http.HandlerFunc) (*Client, *Repository) {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	c := New(Options{RegistriesConf: os.DevNull, UserAgent: "test", FirstWait: time.Millisecond})
	c.conns.limits = limits{silent: 50 * time.Millisecond, body: 100 * time.Millisecond, upload: 100 * time.Millisecond}
	name, err := reference.ParseNormalizedNamed(strings.TrimPrefix(srv.URL, "http://") + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := c.Repository(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return c, repo
}

// trickle sends a byte now and then until the client goes.
func trickle(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write([]byte(" ")); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(10 * time.Millisecond)
	}
}

// TestAnswersThatTrickle end: manifests, refusals and tokens, of which each may be small and none may take for ever.
func TestAnswersThatTrickle(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"manifest": trickle,
		"refusal": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			trickle(w, r)
		},
		"token": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				trickle(w, r)
				return
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, r.Host))
			w.WriteHeader(http.StatusUnauthorized)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			_, repo := impatient(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				handler(w, r)
			})
			if _, err := repo.FetchManifest(t.Context(), "1"); err == nil {
				t.Error("it came")
			}
			if n := asked.Load(); n > 3 {
				t.Errorf("it asked %d times", n)
			}
		})
	}
}

// TestTokensForPasswordsAreBounded, too: their requests have a body, and are no uploads.
func TestTokensForPasswordsAreBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c, repo := impatient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			<-release
			return
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, r.Host))
		w.WriteHeader(http.StatusUnauthorized)
	})
	defer close(release)
	c.conns.limits.upload = time.Hour
	client := *c.auth
	client.Credential = auth.StaticCredential(repo.remote.Reference.Host(), auth.Credential{RefreshToken: "x"})
	repo.remote.Client = &client
	var late *slowError
	if _, err := repo.FetchManifest(withPatience(t.Context(), hasty), "1"); !errors.As(err, &late) {
		t.Errorf("it ended with %v", err)
	}
}

// TestTokenServers that loop, answer without end, or are named by endless headers end with an error.
func TestTokenServers(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]http.HandlerFunc{
		"loops": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), http.StatusFound) },
		"answers without end": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(strings.Repeat(" ", 1<<16))); err != nil {
					return
				}
			}
		},
		"gives tokens that do not count": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"x"}`) },
		"gives null":                     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `null`) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			_, repo := impatient(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				if r.URL.Path == "/token" {
					token(w, r)
					return
				}
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, r.Host))
				w.WriteHeader(http.StatusUnauthorized)
			})
			if _, err := repo.FetchManifest(t.Context(), "1"); err == nil {
				t.Error("it came")
			}
			if n := asked.Load(); n > 15 {
				t.Errorf("it asked %d times", n)
			}
		})
	}
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	c, repo := impatient(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 100 {
			w.Header().Add("WWW-Authenticate", fmt.Sprintf("Bearer realm=%d-%s", i, strings.Repeat("x", 8<<10)))
		}
		w.WriteHeader(http.StatusUnauthorized)
	})
	c.conns.limits = defaultLimits
	if _, err := repo.FetchManifest(withPatience(t.Context(), hasty), "1"); err == nil || !strings.Contains(err.Error(), "header") {
		t.Errorf("800 KiB of headers: %v", err)
	}
}

// TestRetryAfterOfAMirror: what is waited for depends on who waits.
func TestRetryAfterOfAMirror(t *testing.T) {
	t.Parallel()
	busy := &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{}}
	for value, want := range map[string][2]bool{"1": {true, true}, "20": {true, false}, "86400": {false, false}, "99999999999999999999": {true, true}, "-1": {true, true}} {
		busy.Header.Set("Retry-After", value)
		_, long := patient.wait(backoff(firstWait), 0, busy, nil)
		_, short := hasty.wait(backoff(firstWait), 0, busy, nil)
		if long != want[0] || short != want[1] {
			t.Errorf("Retry-After: %s is waited for: %v, with another mirror: %v", value, long, short)
		}
	}
}

// TestUploadsThatAreNotTaken: a registry that takes nothing, or never says that it has it all, is left.
func TestUploadsThatAreNotTaken(t *testing.T) {
	t.Parallel()
	data := []byte("blob")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	release := make(chan struct{})
	var asked atomic.Int32
	_, repo := impatient(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method == http.MethodPost {
			w.Header().Set("Location", r.URL.Path+"1")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		<-release
	})
	defer close(release)
	err := repo.PushBlob(t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(data))), nil })
	var late *slowError
	if !errors.As(err, &late) {
		t.Errorf("the upload ended with %v", err)
	}
	if n := asked.Load(); n > 2*maxTries {
		t.Errorf("it asked %d times", n)
	}
}

// TestBlobsMustGoOn: one that brings a byte at a time is given up, as is a server that brings a byte for each request.
func TestBlobsMustGoOn(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	bytes := func(each time.Duration, count int) func(context.Context, span) (io.ReadCloser, span, error) {
		return func(ctx context.Context, s span) (io.ReadCloser, span, error) {
			return &dripping{ctx, each, count}, s, nil
		}
	}
	slow := &spanReader{ctx: t.Context(), open: bytes(5*time.Millisecond, size), span: span{0, size}, quiet: 50 * time.Millisecond, backoff: 2}
	if n, err := io.Copy(io.Discard, slow); err == nil {
		t.Errorf("a dripping blob came, all of %d bytes", n)
	}
	short := &spanReader{ctx: t.Context(), open: bytes(0, 1), span: span{0, size}, backoff: 2}
	n, err := io.Copy(io.Discard, short)
	if err == nil || n > freeConnects+size/bytesPerConnect {
		t.Errorf("%d bytes came, one for each request: %v", n, err)
	}
	good := &spanReader{ctx: t.Context(), open: bytes(0, size), span: span{0, size}, backoff: 2}
	if n, err := io.Copy(io.Discard, good); err != nil || n != size {
		t.Errorf("of a good one %d bytes came: %v", n, err)
	}
}

// dripping gives count bytes, one a time, and breaks off.
type dripping struct {
	ctx   context.Context
	each  time.Duration
	count int
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.count == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if err := sleep(d.ctx, d.each); err != nil {
		return 0, err
	}
	d.count--
	p[0] = ' '
	return 1, nil
}

func (d *dripping) Close() error { return nil }

// TestInterruptEndsAtOnce what waits: for a response, for the next try, for bytes.
func TestInterruptEndsAtOnce(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"for a response": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"for the next try": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "25")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"for bytes": trickle,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			c, repo := impatient(t, func(w http.ResponseWriter, r *http.Request) {
				defer time.AfterFunc(20*time.Millisecond, cancel).Stop()
				handler(w, r)
				<-ctx.Done()
			})
			c.conns.limits = defaultLimits
			if _, err := repo.FetchManifest(ctx, "1"); !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}
