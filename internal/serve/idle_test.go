package serve_test

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/buildkit/session"
	"google.golang.org/grpc"

	"github.com/micabuild/mica/internal/serve"
)

// serveIdle serves until nobody has used the socket for a moment, and returns what Serve returns.
func serveIdle(t *testing.T, busy func() bool) (socket string, ended <-chan error) {
	t.Helper()
	sessions, err := session.NewManager()
	if err != nil {
		t.Fatal(err)
	}
	s := serve.New(serve.Options{
		GRPC: grpc.NewServer(), Sessions: sessions, IdleTimeout: time.Millisecond, Busy: busy,
		HTTP: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	})
	path := filepath.Join(t.TempDir(), "s.sock")
	ctx, cancel := context.WithCancel(t.Context())
	l, err := serve.Listen(ctx, "unix://"+path, serve.Access{})
	if err != nil {
		t.Fatal(err)
	}
	result, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		result <- s.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return path, result
}

func TestIdleServerEnds(t *testing.T) {
	t.Parallel()
	_, ended := serveIdle(t, nil)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestBusyServerStays: a server has as many chances to end as it asks whether something runs, and ends after that.
func TestBusyServerStays(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	release := make(chan struct{})
	socket, ended := serveIdle(t, func() bool {
		if asked.Add(1) == 3 {
			close(release)
		}
		return asked.Load() < 100
	})
	<-release
	client := web(t, socket)
	resp, err := client.Get("http://docker/")
	if err != nil {
		t.Fatalf("a busy server: %v", err)
	}
	_ = resp.Body.Close()
	client.CloseIdleConnections()
	if err := <-ended; err != nil || asked.Load() < 100 {
		t.Errorf("asked %d times, %v", asked.Load(), err)
	}
}

// TestClientKeepsServer: a connection keeps the server, also one that says nothing yet, and its end ends the server.
func TestClientKeepsServer(t *testing.T) {
	t.Parallel()
	var polls atomic.Int32
	connected, polled := make(chan struct{}), make(chan struct{})
	socket, ended := serveIdle(t, func() bool {
		select {
		case <-connected:
			if polls.Add(1) == 20 {
				close(polled)
			}
			return false
		default:
			return true
		}
	})
	c, err := net.DialTimeout("unix", socket, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	close(connected)
	<-polled
	select {
	case err := <-ended:
		t.Fatalf("ended with a client: %v", err)
	default:
	}
	_ = c.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRest: a server rests after its last client.
func TestRest(t *testing.T) {
	t.Parallel()
	sessions, err := session.NewManager()
	if err != nil {
		t.Fatal(err)
	}
	rested := make(chan struct{}, 10)
	s := serve.New(serve.Options{GRPC: grpc.NewServer(), Sessions: sessions, Rest: func() { rested <- struct{}{} }})
	path := filepath.Join(t.TempDir(), "s.sock")
	ctx, cancel := context.WithCancel(t.Context())
	l, err := serve.Listen(ctx, "unix://"+path, serve.Access{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	<-rested // nobody has come
	client := web(t, path)
	resp, err := client.Get("http://docker/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	client.CloseIdleConnections()
	<-rested
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
