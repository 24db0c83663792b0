package grpcserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// serve starts a server with limits, and returns its address.
func serve(t *testing.T, l limits) string {
	t.Helper()
	s := newServer(256, l)
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = s.Serve(listener) })
	t.Cleanup(func() {
		s.Stop()
		running.Wait()
	})
	return listener.Addr().String()
}

// countingConn counts what it sends.
type countingConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// flood begins calls whose messages, of 16 MiB, are never complete, and returns how many bytes the server has taken until it closed the connection.
func flood(t *testing.T, address string, calls int) int64 {
	t.Helper()
	var sent atomic.Int64
	web := &http.Transport{MaxConnsPerHost: 1, Protocols: new(http.Protocols), DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		return countingConn{c, &sent}, err
	}}
	web.Protocols.SetUnencryptedHTTP2(true)
	defer web.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var running sync.WaitGroup
	for range calls {
		running.Go(func() {
			const size = 16 << 20
			head := binary.BigEndian.AppendUint32([]byte{0}, size)
			body := io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros{}, size-1), blocked{ctx})
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+grpc_health_v1.Health_Check_FullMethodName, body)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/grpc")
			req.Header.Set("Te", "trailers")
			if resp, err := web.RoundTrip(req); err == nil {
				_ = resp.Body.Close()
				t.Error("an answer to half a message")
			}
		})
	}
	running.Wait()
	if err := ctx.Err(); err != nil {
		t.Error("the server has not closed the connection")
	}
	return sent.Load()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// blocked waits for the end of a context.
type blocked struct{ ctx context.Context }

func (b blocked) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, io.EOF
}

// TestUnreadMessages: a client that ends none of its messages is stopped at a limit of its connection, and another client is served.
func TestUnreadMessages(t *testing.T) {
	t.Parallel()
	address := serve(t, limits{conn: 8 << 20, total: 64 << 20, share: 1 << 20, patience: 100 * time.Millisecond})
	if n := flood(t, address, 200); n < 8<<20 || n > 32<<20 {
		t.Errorf("the server has taken %d bytes", n)
	}
	answers(t, address)
}

// TestUnreadMessagesOfAll: connections have a limit together, and one that holds little is served beside them.
func TestUnreadMessagesOfAll(t *testing.T) {
	t.Parallel()
	address := serve(t, limits{conn: 8 << 20, total: 16 << 20, share: 1 << 20, patience: time.Second})
	var running sync.WaitGroup
	var sent atomic.Int64
	for range 8 {
		running.Go(func() { sent.Add(flood(t, address, 20)) })
	}
	answers(t, address)
	running.Wait()
	if n := sent.Load(); n > 128<<20 {
		t.Errorf("the server has taken %d bytes", n)
	}
	answers(t, address)
}

// answers checks that a client gets answers to more messages than a connection may hold.
func answers(t *testing.T, address string) {
	t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	service := string(bytes.Repeat([]byte("x"), 512<<10))
	for range 40 {
		_, err := grpc_health_v1.NewHealthClient(c).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte("NotFound")) {
			t.Fatalf("%.200v", err)
		}
	}
}

// TestMeter: bytes count until a call has read them, until their connection has no calls, or until it ends.
func TestMeter(t *testing.T) {
	t.Parallel()
	m := newMeter(limits{conn: 100, total: 150, share: 20, patience: time.Millisecond})
	a, b := &meteredConn{Conn: nobody{}, m: m}, &meteredConn{Conn: nobody{}, m: m}
	a.add(100)
	if err := a.wait(); !errors.Is(err, errStalled) {
		t.Errorf("a full connection: %v", err)
	}
	b.add(19)
	if err := b.wait(); err != nil {
		t.Errorf("one that holds little: %v", err)
	}
	b.add(40)
	if err := b.wait(); !errors.Is(err, errStalled) {
		t.Errorf("all together: %v", err)
	}
	if err := a.Close(); err != nil || m.total != 59 || b.wait() != nil {
		t.Errorf("after the end of another: %d, %v", m.total, err)
	}
	b.add(-1000)
	if b.held != 0 || m.total != 0 {
		t.Errorf("%d of %d are left", b.held, m.total)
	}
}

// nobody is a connection to nobody.
type nobody struct{ net.Conn }

func (nobody) Close() error { return nil }

// TestFrames: data is found wherever reads cut the frames.
func TestFrames(t *testing.T) {
	t.Parallel()
	var sent bytes.Buffer
	sent.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&sent, nil)
	if err := errors.Join(
		fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush}), fr.WriteData(1, false, make([]byte, 300)),
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte("abc")}), fr.WriteData(3, true, make([]byte, 17)),
	); err != nil {
		t.Fatal(err)
	}
	for size := 1; size <= sent.Len(); size++ {
		f, got := newFrames(), int64(0)
		for rest := sent.Bytes(); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			got += f.skim(rest[:min(size, len(rest))])
		}
		if got != 317 {
			t.Errorf("%d bytes in reads of %d", got, size)
		}
	}
}
