// Package serve has the server of `mica serve`. On each of its sockets it speaks two protocols: HTTP/2 with prior knowledge, for the gRPC
// services of BuildKit's API, and HTTP/1.1, for Docker's API. It knows what neither of them says.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/moby/buildkit/session"
	"google.golang.org/grpc"
)

// Limits on clients.
const (
	maxConnections = 1024 // for each listener, beside those of each client
	ownConnections = 16
	// helloTimeout is the time in which a client says which protocol it speaks, and sends the headers of a request.
	helloTimeout = 10 * time.Second
	idleTimeout  = 10 * time.Minute
	maxHeader    = 1 << 20 // as net/http, and Docker: X-Registry-Config has all credentials
	// shutdownTime is the time in which requests over HTTP/1.1 end. Builds are canceled at once.
	shutdownTime = 2 * time.Second
)

// Options are what a server answers with.
type Options struct {
	// GRPC has the services for HTTP/2, and for HTTP/1.1 connections that are upgraded at /grpc. The server stops it.
	GRPC *grpc.Server
	// Sessions get the connections that are upgraded at /session.
	Sessions *session.Manager
	// HTTP answers all other requests over HTTP/1.1; nil for none.
	HTTP http.Handler
	// IdleTimeout ends the server when it has had no connection for that long; 0 for never.
	IdleTimeout time.Duration
	// Busy reports whether something runs without a connection; nil for nothing.
	Busy func() bool
	// Rest is called when the server has had no connection for a moment; nil for nothing.
	Rest func()
}

// Server answers the clients of its listeners. It is safe for concurrent use.
type Server struct {
	grpc  *grpc.Server
	http  *http.Server
	toRPC *queue
	toWeb *queue
	idle  *idle
}

// New returns a server.
func New(o Options) *Server {
	s := &Server{grpc: o.GRPC, toRPC: newQueue(), toWeb: newQueue(), idle: newIdle(o.IdleTimeout, o.Busy, o.Rest)}
	keep := idleTimeout
	if o.IdleTimeout > 0 {
		keep = min(keep, o.IdleTimeout) // a connection without a request does not keep the server
	}
	s.http = &http.Server{
		Handler: s.handler(o.HTTP, o.Sessions), ReadHeaderTimeout: helloTimeout, IdleTimeout: keep, MaxHeaderBytes: maxHeader,
	}
	return s
}

// Serve answers the clients of the listeners until ctx ends or nobody has used them for the IdleTimeout, and closes the listeners. The
// requests that are answered then are canceled, and Serve returns when they have ended.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	failed := make(chan error, 3)
	var running sync.WaitGroup
	run := func(f func() error) {
		running.Go(func() { failed <- f() })
	}
	run(func() error { return s.grpc.Serve(s.toRPC) })
	run(func() error { return s.http.Serve(s.toWeb) })
	run(func() error { return s.acceptAll(ctx, listeners) })
	var err error
	select {
	case err = <-failed:
		if err != nil {
			err = fmt.Errorf("serve: %w", err)
		}
	case <-ctx.Done():
	}
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	s.stop(ctx)
	running.Wait()
	s.idle.rest.Stop()
	return err
}

// stop ends both servers.
func (s *Server) stop(ctx context.Context) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	var running sync.WaitGroup
	running.Go(s.grpc.Stop)
	running.Go(func() {
		if s.http.Shutdown(end) != nil {
			_ = s.http.Close()
		}
	})
	running.Wait()
}
