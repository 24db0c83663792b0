package engineapi

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestAnswer: an error before the first byte has a status; a later one, and a panic, break the connection.
func TestAnswer(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	for name, c := range map[string]struct {
		h      handler
		status int
		body   string
		broken bool
	}{
		"none":  {func(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, 1) }, 200, "1\n", false},
		"early": {func(http.ResponseWriter, *http.Request) error { return errors.New("http://u:secret@h/ is no good") }, 500, `{"message":"http://xxxxx:xxxxx@h/ is no good"}` + "\n", false},
		"late": {func(w http.ResponseWriter, _ *http.Request) error {
			return errors.Join(writeJSON(w, 1), errors.New("no"))
		}, 200, "", true},
		"panic": {func(http.ResponseWriter, *http.Request) error { panic("x") }, 500, `{"message":"internal error: x"}` + "\n", false},
	} {
		web := httptest.NewServer(s.answer(c.h))
		resp, err := http.Get(web.URL)
		if err != nil {
			if !c.broken {
				t.Errorf("%s: %v", name, err)
			}
			web.Close()
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || !c.broken && string(body) != c.body || (err != nil) != c.broken {
			t.Errorf("%s: %s, %q, %v", name, resp.Status, body, err)
		}
		web.Close()
	}
}

// TestPatience: a client that reads nothing cancels what it has asked for.
func TestPatience(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.writeTimeout = 10 * time.Millisecond
	canceled := make(chan struct{})
	web := httptest.NewServer(s.answer(func(w http.ResponseWriter, r *http.Request) error {
		out := newStream(w)
		for r.Context().Err() == nil {
			out.status("%s", strings.Repeat("x", 1<<20))
		}
		close(canceled)
		return r.Context().Err()
	}))
	defer web.Close()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: mica\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-canceled
}
