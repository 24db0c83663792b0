package ui

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPruneBesideDownload: a prune gives up if a request goes on reading the store, and those that come later do not wait for it.
func TestPruneBesideDownload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		s.use.RLock()
		done := make(chan error, 1)
		go func() { done <- s.lockUse(t.Context()) }()
		time.Sleep(pruneWait / 2)
		if !s.use.TryRLock() {
			t.Error("a request waits for the prune")
		} else {
			s.use.RUnlock()
		}
		if err := <-done; !errors.Is(err, errInUse) || statusOf(err) != http.StatusConflict {
			t.Errorf("error %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.lockUse(ctx); err == nil {
			t.Error("a prune that nobody waits for waits")
		}
		go func() { done <- s.lockUse(t.Context()) }()
		time.Sleep(pruneWait / 2)
		s.use.RUnlock()
		if err := <-done; err != nil || s.use.TryRLock() {
			t.Errorf("error %v, or the lock is not taken", err)
		}
	})
}

// oneConn is a listener for one connection.
type oneConn chan net.Conn

func (l oneConn) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l oneConn) Close() error { return nil }
func (oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// TestPausedDownload: a download ends if its client reads nothing for long; slow clients get all of it, and then other answers, however
// late.
func TestPausedDownload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, conn := net.Pipe()
		broken := make(chan error, 2)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			out := &patient{w, http.NewResponseController(w)}
			_, err := io.Copy(out, io.LimitReader(strings.NewReader(strings.Repeat("x", 128<<10)), 128<<10))
			out.end()
			broken <- err
		})}
		l := make(oneConn, 1)
		l <- conn
		close(l)
		go func() { _ = srv.Serve(l) }()
		ask := func() {
			if _, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
		}
		in := bufio.NewReader(client)
		for range 2 {
			ask()
			res, err := http.ReadResponse(in, nil) //nolint:bodyclose // read to its end below
			for err == nil {                       // until io.EOF
				time.Sleep(downloadPause * 3 / 4)
				_, err = io.CopyN(io.Discard, res.Body, 32<<10) // what io.Copy writes at once
			}
			if broke := <-broken; broke != nil || !errors.Is(err, io.EOF) {
				t.Fatalf("the server: %v, the client: %v", broke, err)
			}
			time.Sleep(2 * downloadPause)
		}
		ask()
		if err := <-broken; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("error %v, want that of a deadline", err)
		}
		_ = client.Close()
	})
}
