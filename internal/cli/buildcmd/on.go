package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/kubejob"
)

// onUsage is the usage of --on.
const onUsage = `Run the RUN instructions elsewhere (format: "unix:///PATH[,repo=REGISTRY/NAME]", "kubernetes,image=REGISTRY/mica")`

// engine is where steps run, which the builds of a command share.
type engine struct {
	mu      sync.Mutex
	workers map[string]*worker // by platform, "" for an address
}

// worker is a server that runs steps.
type worker struct {
	mu     sync.Mutex // held while it is started
	client *bkclient.Client
	job    *kubejob.Job // nil for an address
}

// elsewhere is what runs the steps of a build, nil for this host.
func (e *engine) elsewhere(spec *buildspec.Spec) *builder.Elsewhere {
	on := spec.On
	if on == nil {
		return nil
	}
	return &builder.Elsewhere{
		Layers: on.Layers,
		Connect: func(ctx context.Context, p ocispec.Platform, lost *bkclient.Client) (*bkclient.Client, error) {
			if on.Engine != buildspec.Kubernetes {
				return e.worker("").connect(ctx, lost, func() (*bkclient.Client, *kubejob.Job, error) {
					c, err := dial(ctx, on)
					return c, nil, err
				})
			}
			return e.worker(platforms.Format(p)).connect(ctx, lost, func() (*bkclient.Client, *kubejob.Job, error) { return startJob(ctx, &on.Job, p) })
		},
	}
}

func (e *engine) worker(name string) *worker {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.workers == nil {
		e.workers = map[string]*worker{}
	}
	if e.workers[name] == nil {
		e.workers[name] = &worker{}
	}
	return e.workers[name]
}

// connect returns the connection, which the first step opens, and one that has lost it again.
func (w *worker) connect(ctx context.Context, lost *bkclient.Client, start func() (*bkclient.Client, *kubejob.Job, error)) (*bkclient.Client, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client != nil && w.client != lost {
		return w.client, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	_ = w.close() // of one that is lost
	var err error
	w.client, w.job, err = start()
	return w.client, err
}

func (w *worker) close() error {
	var errs []error
	if w.client != nil {
		errs = append(errs, w.client.Close())
	}
	if w.job != nil {
		errs = append(errs, w.job.Close(context.Background()))
	}
	w.client, w.job = nil, nil
	return errors.Join(errs...)
}

// close closes the connections and deletes the Jobs.
func (e *engine) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, w := range e.workers {
		w.mu.Lock()
		errs = append(errs, w.close())
		w.mu.Unlock()
	}
	return errors.Join(errs...)
}

// dialTime is how long a server has to take a connection.
const dialTime = 10 * time.Second

// dial connects to an address.
func dial(ctx context.Context, on *buildspec.On) (*bkclient.Client, error) {
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	network, address, _ := strings.Cut(on.Engine, "://")
	conn, err := (&net.Dialer{}).DialContext(dialing, network, address) // gRPC's errors say it less plainly
	if err != nil {
		return nil, fmt.Errorf("%w: start mica serve --addr %s there", err, on.Engine)
	}
	_ = conn.Close()
	var opts []bkclient.ClientOpt
	if on.CACert != "" {
		opts = append(opts, bkclient.WithServerConfig(on.ServerName, on.CACert), bkclient.WithCredentials(on.Cert, on.Key))
	}
	c, err := bkclient.New(ctx, on.Engine, opts...)
	return answers(dialing, c, on.Engine, err)
}

// answers returns a connection whose server answers.
func answers(ctx context.Context, c *bkclient.Client, name string, err error) (*bkclient.Client, error) {
	if err != nil {
		return nil, err
	}
	if _, err := c.Info(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), c.Close())
	}
	return c, nil
}

// jobOptions reads the options of Jobs.
func jobOptions(on *buildspec.OnJob) (o kubejob.Options, err error) {
	o = kubejob.Options{Context: on.Context, Namespace: on.Namespace, Image: on.Image, Isolation: on.Isolation, Timeout: on.Timeout}
	if on.Template == "" {
		return o, nil
	}
	f, err := os.Open(on.Template)
	if err != nil {
		return o, fmt.Errorf("template: %w", err)
	}
	defer func() { _ = f.Close() }()
	if o.Template, err = io.ReadAll(io.LimitReader(f, kubejob.MaxTemplate+1)); err != nil {
		return o, fmt.Errorf("template: %w", err)
	}
	return o, nil
}

// startJob starts a Job and connects to it.
func startJob(ctx context.Context, on *buildspec.OnJob, p ocispec.Platform) (*bkclient.Client, *kubejob.Job, error) {
	o, err := jobOptions(on)
	if err != nil {
		return nil, nil, err
	}
	job, err := kubejob.Start(ctx, o, p)
	if err != nil {
		return nil, nil, err
	}
	c, err := bkclient.New(ctx, "", bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return job.Dial(ctx) }))
	if c, err = answers(ctx, c, "Job "+job.Name(), err); err != nil {
		return nil, nil, errors.Join(err, job.Close(ctx))
	}
	return c, job, nil
}

// checkOn refuses what only this host can give to steps, and options that no Job can be made of.
func checkOn(spec *buildspec.Spec, i *inspection) error {
	switch {
	case spec.On == nil:
		return nil
	case i != nil && i.onFailure:
		return &command.UsageError{Err: errors.New("--on-error and --invoke cannot be used with --on: what a step that fails has left is not on this host")}
	case spec.HostCerts:
		return &command.UsageError{Err: errors.New("--host-certs cannot be used with --on: give them as a secret")}
	case spec.ProxyNetwork:
		return &command.UsageError{Err: errors.New("--proxy-network cannot be used with --on: the proxy is on this host")}
	case spec.On.Engine != buildspec.Kubernetes:
		return nil
	}
	o, err := jobOptions(&spec.On.Job)
	if err == nil {
		err = o.Check()
	}
	if err != nil {
		return &command.UsageError{Err: fmt.Errorf("--on: %w", err)}
	}
	return nil
}
