package control

import (
	"google.golang.org/grpc"

	"github.com/micabuild/mica/internal/grpcserver"
)

// maxStreams is how many calls each connection may have at once.
const maxStreams = 256

// NewServer returns a server for the services of a Controller.
func NewServer() *grpc.Server { return grpcserver.New(maxStreams) }
