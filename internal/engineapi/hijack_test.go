package engineapi

import (
	"context"
	"net"
	"path/filepath"
	"testing"
)

// TestWhileConnected: what a client sends is not its end, nor is the end of what it sends; that it closes the connection is.
func TestWhileConnected(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := new(net.Dialer).DialContext(t.Context(), "unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	h := &hijacked{Conn: &wrapped{conn, func() {}}}
	defer func() { _ = h.Close() }()
	ctx, cancel := h.whileConnected(t.Context())
	defer cancel()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if !closeWrite(client) {
		t.Fatal("the client cannot close its side")
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil || ctx.Err() != nil {
		t.Fatal(err, context.Cause(ctx))
	}
	_ = client.Close()
	<-ctx.Done()
}
