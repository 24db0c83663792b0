package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// quickObjects is a client that waits for nothing long.
func quickObjects() *Objects {
	quick := 50 * time.Millisecond
	conns := &objectTransports{transports{
		insecure: func(string) bool { return false }, limits: limits{silent: quick, body: quick, upload: quick}, byHost: map[string]*http.Transport{},
	}}
	return &Objects{client: &http.Client{Transport: &retrying{conns, 1}}, backoff: 1}
}

func refusedStatus(resp *http.Response) error { return errors.New(resp.Status) }

// TestObjects: downloads resume where they broke off, with and without ranges, and what a server sends beside what was asked for is refused.
func TestObjects(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("mica"), 64<<10)
	d := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	for name, c := range map[string]struct {
		first, later registrytest.Fault
		err          string
		gone         bool
	}{
		"whole":          {},
		"broken off":     {first: registrytest.Cut(100_000)},
		"without ranges": {first: registrytest.Cut(100_000), later: registrytest.NoRanges},
		"not found":      {first: registrytest.Status(404), err: "404", gone: true},
		"refused":        {first: registrytest.Status(403), err: "403"},
		"longer":         {first: registrytest.Long(1), err: "262145"},
		"other bytes":    {first: registrytest.Cut(100_000), later: registrytest.Header("Content-Range", "bytes 0-5/6"), err: "were asked for"},
		"redirect":       {first: registrytest.Redirect("http://127.0.0.1:1/elsewhere"), err: "307"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fault := c.later
				if n.Add(1) == 1 {
					fault = c.first
				}
				content := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
				})
				if fault == nil {
					content.ServeHTTP(w, r)
					return
				}
				fault(w, r, content)
			}))
			defer s.Close()
			o := New(Options{FirstWait: 1}).Objects()
			r, err := o.Open(t.Context(), Object{
				Descriptor: d, Refused: refusedStatus,
				Request: func(ctx context.Context, h http.Header) (*http.Request, error) {
					req, err := newRequest(ctx, http.MethodGet, s.URL+"/?sig=secret", nil)
					req.Header = h
					return req, err
				},
			})
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
				_ = r.Close()
			}
			switch {
			case c.err == "" && (err != nil || !bytes.Equal(got, data)):
				t.Errorf("%d bytes, %v", len(got), err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret")):
				t.Errorf("%v, want %s", err, c.err)
			case errors.Is(err, errdef.ErrNotFound) != c.gone:
				t.Errorf("not found: %v", err)
			}
		})
	}
}

// TestObjectsOfSilentServer: an upload of which nothing is read, and a response that does not begin, end.
func TestObjectsOfSilentServer(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		req, err := newRequest(t.Context(), method, s.URL+"/?sig=secret", bytes.NewReader(make([]byte, 16<<20)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := quickObjects().Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if want := fmt.Sprint(noResponse, " for 50ms"); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", method, err, want)
		}
	}
}
