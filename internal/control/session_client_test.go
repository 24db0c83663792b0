package control

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/sshforward"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// deadlines is the agent of a client, which notes whether the question has a limit of time.
type deadlines struct {
	sshforward.UnimplementedSSHServer
	limited chan bool
}

func (d *deadlines) CheckAgent(ctx context.Context, _ *sshforward.CheckAgentRequest) (*sshforward.CheckAgentResponse, error) {
	_, ok := ctx.Deadline()
	d.limited <- ok
	return &sshforward.CheckAgentResponse{}, nil
}

// caller is a session by its connection.
type caller struct {
	session.Caller
	conn *grpc.ClientConn
}

func (c *caller) Conn() *grpc.ClientConn                      { return c.conn }
func (c *caller) Context(ctx context.Context) context.Context { return ctx }
func (c *caller) Supports(string) bool                        { return true }

// TestAgentDeadline: a client that does not say whether it has an agent does not keep a build for ever.
func TestAgentDeadline(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	d, server := &deadlines{limited: make(chan bool, 1)}, grpc.NewServer()
	sshforward.RegisterSSHServer(server, d)
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(l) })
	defer running.Wait()
	defer server.Stop()
	conn, err := grpc.NewClient("unix://"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	err = checkAgent(t.Context(), &caller{conn: conn}, "default")
	if limited := <-d.limited; !limited || errors.Join(err, conn.Close()) != nil {
		t.Errorf("limited: %t, %v", limited, err)
	}
}
