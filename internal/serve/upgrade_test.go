package serve

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
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
