package control

import (
	"context"
	"fmt"
	"net"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/session/grpchijack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// sessionID is the header of a session's ID.
const sessionID = "x-docker-expose-session-uuid"

// errSessionEnded is why a build is canceled whose client has gone, though its request may be there still.
var errSessionEnded = fmt.Errorf("the session of the client has ended: %w", context.Canceled)

// watchSession cancels a build when its session ends.
func (c *Controller) watchSession(id string, j *job) {
	if id == "" {
		return
	}
	caller, err := c.o.Sessions.Get(j.ctx, id, false)
	if err != nil { // the build has ended
		return
	}
	<-caller.Context(j.ctx).Done()
	j.cancel(errSessionEnded)
}

// Session keeps the connection by which builds ask the client for files, secrets and credentials. It ends with the client.
func (c *Controller) Session(stream controlapi.Control_SessionServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	ids := md.Get(sessionID)
	if len(ids) != 1 || ids[0] == "" {
		return status.Error(codes.InvalidArgument, "the session has no ID")
	}
	if known, err := c.o.Sessions.Get(stream.Context(), ids[0], true); err == nil && known != nil {
		return fmt.Errorf("session %s already exists", ids[0])
	}
	conn, closed, headers := grpchijack.Hijack(stream)
	defer func(conn net.Conn) { _ = conn.Close() }(conn)
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		<-closed
		cancel()
	}()
	return c.o.Sessions.HandleConn(ctx, conn, headers)
}
