package grpcserver_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/micabuild/mica/internal/grpcserver"
)

// service fails in the way that the name of a request says.
type service struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (service) Check(_ context.Context, req *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	switch req.Service {
	case "panic":
		panic("unexpected")
	case "place":
		return nil, errdefs.WithSource(errors.New("bad"), &errdefs.Source{Info: &pb.SourceInfo{Filename: "Dockerfile"}})
	}
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func (service) Watch(*grpc_health_v1.HealthCheckRequest, grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	panic("unexpected")
}

func connect(t *testing.T) grpc_health_v1.HealthClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpcserver.New(4)
	grpc_health_v1.RegisterHealthServer(s, service{})
	var running sync.WaitGroup
	running.Go(func() { _ = s.Serve(l) })
	c, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(grpcerrors.UnaryClientInterceptor))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		s.Stop()
		running.Wait()
	})
	return grpc_health_v1.NewHealthClient(c)
}

// TestErrors: a panic is an error of its call alone, errors keep their details, and a message has a limit.
func TestErrors(t *testing.T) {
	t.Parallel()
	c := connect(t)
	check := func(name string) error {
		_, err := c.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: name})
		return err
	}
	if err := check("panic"); err == nil || !strings.Contains(err.Error(), "internal error: unexpected") {
		t.Errorf("panic: %v", err)
	}
	stream, err := c.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil || !strings.Contains(err.Error(), "internal error: unexpected") {
		t.Errorf("panic of a stream: %v", err)
	}
	if list := errdefs.Sources(check("place")); len(list) != 1 || list[0].Info.Filename != "Dockerfile" {
		t.Errorf("places: %v", list)
	}
	if err := check(strings.Repeat("x", 17<<20)); err == nil || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("a large message: %v", err)
	}
	if err := check("fine"); err != nil {
		t.Error(err)
	}
}
