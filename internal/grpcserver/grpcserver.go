// Package grpcserver makes servers of gRPC for clients that are not trusted.
package grpcserver

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
	maxHeaders       = 1 << 20
	handshakeTimeout = 10 * time.Second
)

// New returns a server with a limit on the calls of one connection. Its errors have the details that BuildKit's clients show: the step, the
// place in the Dockerfile. A panic of a method is an error for its client alone.
func New(streams uint32) *grpc.Server {
	return grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.MaxConcurrentStreams(streams),
		grpc.MaxHeaderListSize(maxHeaders),
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
