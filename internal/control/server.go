package control

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/micabuild/mica/internal/grpcserver"
)

// maxStreams is how many calls each connection may have at once.
const maxStreams = 256

// alive is how clients are found that have stopped, or whose machines have: their builds end, as those of clients that go away.
var alive = keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}

// NewServer returns a server for the services of a Controller.
func NewServer() *grpc.Server { return grpcserver.New(maxStreams, grpc.KeepaliveParams(alive)) }
