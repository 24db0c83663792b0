package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cli/command"
)

// onUsage is the usage of --on.
const onUsage = `Run the RUN instructions at another mica (format: "unix:///PATH[,repo=REGISTRY/NAME]")`

// engine is the connection to where steps run, which builds share.
type engine struct {
	mu     sync.Mutex
	client *bkclient.Client
}

// elsewhere is what runs the steps of a build, nil for this host.
func (e *engine) elsewhere(spec *buildspec.Spec) *builder.Elsewhere {
	on := spec.On
	if on == nil {
		return nil
	}
	return &builder.Elsewhere{
		Layers:  on.Layers,
		Connect: func(ctx context.Context, _ ocispec.Platform) (*bkclient.Client, error) { return e.connect(ctx, on) },
	}
}

// dialTime is how long a server has to take a connection.
const dialTime = 10 * time.Second

// connect returns the connection, which the first step opens.
func (e *engine) connect(ctx context.Context, on *buildspec.On) (*bkclient.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		return e.client, nil
	}
	c, err := dial(ctx, on)
	if err != nil {
		return nil, fmt.Errorf("%w: start mica serve --addr %s there", err, on.Engine)
	}
	e.client = c
	return c, nil
}

func dial(ctx context.Context, on *buildspec.On) (*bkclient.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	network, address, _ := strings.Cut(on.Engine, "://")
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address) // gRPC's errors say it less plainly
	if err != nil {
		return nil, err
	}
	_ = conn.Close()
	var opts []bkclient.ClientOpt
	if on.CACert != "" {
		opts = append(opts, bkclient.WithServerConfig(on.ServerName, on.CACert), bkclient.WithCredentials(on.Cert, on.Key))
	}
	c, err := bkclient.New(ctx, on.Engine, opts...)
	if err != nil {
		return nil, err
	}
	if _, err := c.Info(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", on.Engine, err), c.Close())
	}
	return c, nil
}

// close closes the connection.
func (e *engine) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client == nil {
		return nil
	}
	return e.client.Close()
}

// checkOn refuses what only this host can give to steps.
func checkOn(spec *buildspec.Spec, i *inspection) error {
	switch {
	case spec.On == nil:
		return nil
	case i != nil && i.onFailure:
		return &command.UsageError{Err: errors.New("--on-error and --invoke cannot be used with --on: what a step that fails has left is not on this host")}
	case spec.HostCerts:
		return &command.UsageError{Err: errors.New("--host-certs cannot be used with --on: give them as a secret")}
	}
	return nil
}
