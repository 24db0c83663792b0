// Package grpcserver makes servers of gRPC for clients that are not trusted.
package grpcserver

import (
	"context"
	"time"

	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/micabuild/mica/internal/crash"
)

// Limits on clients. The sizes of messages are those of BuildKit.
const (
	maxMessage       = 16 << 20
	maxHeaders       = 1 << 20
	handshakeTimeout = 10 * time.Second
	// window is how much a client sends of a call that nobody reads. By itself, gRPC lets it grow to the size of the largest message.
	window     = 1 << 20
	connWindow = 8 << 20 // data on its way to all calls of a connection
)

// unread are the limits on what clients have sent and calls have not read.
var unread = limits{conn: 128 << 20, total: 512 << 20, share: 512 << 10, patience: 10 * time.Second}

// New returns a server with a limit on the calls of one connection. Its errors have the details that BuildKit's clients show: the step, the
// place in the Dockerfile. A panic of a method is an error for its client alone. More options are those of this server.
func New(streams uint32, more ...grpc.ServerOption) *grpc.Server {
	return newServer(streams, unread, more...)
}

func newServer(streams uint32, l limits, more ...grpc.ServerOption) *grpc.Server {
	m := newMeter(l)
	return grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(meteredTransport{insecure.NewCredentials(), m}), grpc.StatsHandler(m),
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(connWindow),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.MaxConcurrentStreams(streams),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTimeout), grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(grpcerrors.UnaryServerInterceptor, guardUnary),
		grpc.ChainStreamInterceptor(grpcerrors.StreamServerInterceptor, guardStream),
	}, more...)...)
}

func guardUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	defer crash.Recover(&err)
	return handle(ctx, req)
}

func guardStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer crash.Recover(&err)
	return handle(srv, stream)
}
