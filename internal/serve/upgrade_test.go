package serve

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/moby/buildkit/session"
)

// TestSessionConn: a session goes on when a read times out, and ends when the client hangs up.
func TestSessionConn(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	here, there := net.Pipe()
	c := &sessionConn{here, cancel}
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("a timeout: %v, the session has ended: %v", err, ctx.Err())
	}
	if err := errors.Join(c.SetReadDeadline(time.Time{}), there.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || ctx.Err() == nil {
		t.Errorf("the client has gone: %v, the session has ended: %v", err, ctx.Err())
	}
}

// hijackable gives its connection away.
type hijackable struct {
	http.ResponseWriter
	conn net.Conn
}

func (w *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.conn, nil, nil }

// A client that does not read the answer to its request for a session keeps no other from its own.
func TestSessionUnread(t *testing.T) {
	t.Parallel()
	sessions, err := session.NewManager()
	if err != nil {
		t.Fatal(err)
	}
	begin := func(id string) (client net.Conn, ended chan bool) {
		client, server := net.Pipe() // a write waits for a read
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/session", nil)
		r.Header.Set("Upgrade", "h2c")
		r.Header.Set(headerSessionID, id)
		ended = make(chan bool)
		go func() {
			upgradeSession(&hijackable{conn: server}, r, sessions)
			close(ended)
		}()
		return client, ended
	}
	silent, silentEnded := begin("silent")
	if _, err := silent.Read(make([]byte, 1)); err != nil { // the answer is being written
		t.Fatal(err)
	}
	other, otherEnded := begin("other")
	go func() { _, _ = io.Copy(io.Discard, other) }()
	if found, err := sessions.Get(t.Context(), "other", false); err != nil || found == nil {
		t.Errorf("the session of another client: %v, %v", found, err)
	}
	_, _ = silent.Close(), other.Close()
	<-silentEnded
	<-otherEnded
}
