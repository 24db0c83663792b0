package serve_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// FuzzConnection: whatever a client sends, it gets an answer or the end of its connection, and the next client is answered.
func FuzzConnection(f *testing.F) {
	const preface = http2.ClientPreface
	for _, seed := range []string{
		"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "POST /grpc HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + preface,
		"POST /session HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nX-Docker-Expose-Session-Uuid: a\r\n\r\n" + preface,
		preface, preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", preface[:9], "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "", "\x16\x03\x01", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
		preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x0e\x01\x05\x00\x00\x00\x01\x83\x86\x44\x02/x\x41\x01a\x5f\x01a",
	} {
		f.Add([]byte(seed))
	}
	path := start(f)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := net.DialTimeout("unix", path, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(data) // the server may have ended the connection
		_ = c.(*net.UnixConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection stays: %v", err)
		}
		_ = c.Close()
		resp, err := client.Get("http://mica/")
		if err != nil {
			t.Fatalf("the next client: %v", err)
		}
		_ = resp.Body.Close()
	})
}
