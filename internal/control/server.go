package control

import (
	"context"
	"time"

	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc"

	"github.com/micabuild/mica/internal/crash"
)

// Limits on clients. The sizes of messages are those of BuildKit.
const (
	maxMessage       = 16 << 20
	maxStreams       = 256 // for each connection
	handshakeTimeout = 10 * time.Second
)

// NewServer returns a server whose errors have the details that BuildKit's clients show: the step, the place in the Dockerfile. A panic of a
// method is an error for its client alone.
func NewServer() *grpc.Server {
	return grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTimeout), grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(grpcerrors.UnaryServerInterceptor, guardUnary),
		grpc.ChainStreamInterceptor(grpcerrors.StreamServerInterceptor, guardStream),
	)
}

func guardUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	defer crash.Recover(&err)
	return handle(ctx, req)
}

func guardStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer crash.Recover(&err)
	return handle(srv, stream)
}
