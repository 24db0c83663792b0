package bridge

import (
	"context"
	"errors"
	"net"

	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxContainers is how many containers a front end may have at once.
const maxContainers = 64

// heldContainer is a container of a front end. It has no client's container while it is made.
type heldContainer struct {
	client.Container
	size int // of the request, in bytes
}

// NewContainer mounts results for processes. The front end chooses the ID.
func (b *Bridge) NewContainer(ctx context.Context, req *gwpb.NewContainerRequest) (*gwpb.NewContainerResponse, error) {
	ctx, done, err := b.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	r := client.NewContainerRequest{
		Hostname: req.Hostname, NetMode: req.Network, ExtraHosts: req.ExtraHosts, Platform: req.Platform, Constraints: req.Constraints,
	}
	for _, h := range req.ExtraHosts {
		if net.ParseIP(h.GetIP()) == nil {
			return nil, status.Errorf(codes.InvalidArgument, "failed to parse IP %s", h.GetIP())
		}
	}
	if r.Mounts, err = b.mountsOf(req.Mounts); err != nil {
		return nil, err
	}
	size := req.SizeVT()
	if err := b.keepBytes(size); err != nil {
		return nil, err
	}
	// The ID is taken while the container is made.
	if err := b.putContainer(req.ContainerID); err != nil {
		b.dropBytes(size)
		return nil, err
	}
	var c client.Container
	defer func() { // also if making it has panicked
		b.mu.Lock()
		defer b.mu.Unlock()
		if c == nil {
			delete(b.containers, req.ContainerID)
			b.dropBytes(size)
			return
		}
		b.containers[req.ContainerID] = heldContainer{c, size}
	}()
	if c, err = b.client.NewContainer(ctx, r); err != nil {
		c = nil
		return nil, err
	}
	return &gwpb.NewContainerResponse{}, nil
}

func (b *Bridge) mountsOf(list []*pb.Mount) ([]client.Mount, error) {
	var mounts []client.Mount
	for _, m := range list {
		if m == nil {
			return nil, status.Error(codes.InvalidArgument, "a mount of the container has no value")
		}
		ref, err := b.mountRef(m.ResultID)
		if err != nil {
			return nil, status.Errorf(codes.NotFound, "failed to find ref %s for %q mount", m.ResultID, m.Dest)
		}
		mounts = append(mounts, client.Mount{
			Selector: m.Selector, Dest: m.Dest, ResultID: m.ResultID, Ref: ref, Readonly: m.Readonly, MountType: m.MountType,
			CacheOpt: m.CacheOpt, SecretOpt: m.SecretOpt, SSHOpt: m.SSHOpt,
		})
	}
	return mounts, nil
}

// mountRef is a result, or what a mount of a failed step shows.
func (b *Bridge) mountRef(id string) (client.Reference, error) {
	b.mu.Lock()
	ref, ok := b.mounts[id]
	b.mu.Unlock()
	if ok {
		return ref, nil
	}
	return b.ref(id)
}

func (b *Bridge) putContainer(id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, taken := b.containers[id]
	switch {
	case id == "":
		return status.Error(codes.InvalidArgument, "the container has no ID")
	case len(id) > maxID:
		return status.Errorf(codes.InvalidArgument, "the ID of a container has more than %d bytes", maxID)
	case taken:
		return status.Errorf(codes.AlreadyExists, "Container %s already exists", id)
	case len(b.containers) >= maxContainers:
		return status.Errorf(codes.ResourceExhausted, "the front end has %d containers: release some", maxContainers)
	}
	b.containers[id] = heldContainer{}
	return nil
}

func (b *Bridge) container(id string) (client.Container, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.findContainer(id)
}

// findContainer is called with the lock of the bridge.
func (b *Bridge) findContainer(id string) (client.Container, error) {
	if c := b.containers[id]; c.Container != nil {
		return c.Container, nil
	}
	return nil, status.Errorf(codes.NotFound, "container %q previously released or not created", id)
}

// takeContainer returns a container that is the caller's to release.
func (b *Bridge) takeContainer(id string) (client.Container, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.findContainer(id)
	if err == nil {
		b.dropBytes(b.containers[id].size)
		delete(b.containers, id)
	}
	return c, err
}

// ReleaseContainer ends the processes of a container and removes it.
func (b *Bridge) ReleaseContainer(ctx context.Context, req *gwpb.ReleaseContainerRequest) (*gwpb.ReleaseContainerResponse, error) {
	ctx, done, err := b.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := b.takeContainer(req.ContainerID)
	if err != nil {
		return nil, err
	}
	return &gwpb.ReleaseContainerResponse{}, c.Release(ctx)
}

// releaseAll releases the containers that are left when the build ends.
func (b *Bridge) releaseAll() {
	b.mu.Lock()
	left := b.containers
	b.containers = map[string]heldContainer{}
	b.mu.Unlock()
	for _, c := range left {
		if c.Container == nil {
			continue
		}
		_ = c.Release(context.Background()) // the host of the client reports it
	}
}

// containerCall begins a call that reads a container.
func (b *Bridge) containerCall(ctx context.Context, id string) (client.Container, context.Context, func(), error) {
	c, err := b.container(id)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, done, err := b.call(ctx)
	return c, ctx, done, err
}

// ReadFileContainer returns the content of a file of a container. MountIndex says in which of its mounts.
func (b *Bridge) ReadFileContainer(ctx context.Context, req *gwpb.ReadFileRequest) (*gwpb.ReadFileResponse, error) {
	c, ctx, done, err := b.containerCall(ctx, req.Ref)
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := readRequest(req)
	if err != nil {
		return nil, err
	}
	data, err := c.ReadFile(ctx, client.ReadContainerRequest{ReadRequest: r, MountIndex: int(req.MountIndex)})
	if err != nil {
		return nil, err
	}
	return &gwpb.ReadFileResponse{Data: data}, nil
}

// ReadDirContainer lists a directory of a container.
func (b *Bridge) ReadDirContainer(ctx context.Context, req *gwpb.ReadDirRequest) (*gwpb.ReadDirResponse, error) {
	c, ctx, done, err := b.containerCall(ctx, req.Ref)
	if err != nil {
		return nil, err
	}
	defer done()
	r := client.ReadDirRequest{Path: req.DirPath, IncludePattern: req.IncludePattern}
	list, err := c.ReadDir(ctx, client.ReadDirContainerRequest{ReadDirRequest: r, MountIndex: int(req.MountIndex)})
	if err != nil {
		return nil, err
	}
	return &gwpb.ReadDirResponse{Entries: list}, nil
}

// StatFileContainer describes a file of a container.
func (b *Bridge) StatFileContainer(ctx context.Context, req *gwpb.StatFileRequest) (*gwpb.StatFileResponse, error) {
	c, ctx, done, err := b.containerCall(ctx, req.Ref)
	if err != nil {
		return nil, err
	}
	defer done()
	st, err := c.StatFile(ctx, client.StatContainerRequest{StatRequest: client.StatRequest{Path: req.Path}, MountIndex: int(req.MountIndex)})
	if err != nil {
		return nil, err
	}
	return &gwpb.StatFileResponse{Stat: st}, nil
}

// stepError is the error of a step with what its mounts show before and after it, and the part of it that has failed.
type stepError interface {
	error
	References() (inputs, mounts []client.Reference)
	Subject() errdefs.IsSolve_Subject
}

// solveError adds to the error of a build what a front end needs to look for the reason: the operation, and IDs of what its mounts show,
// which mounts of containers can have.
func (b *Bridge) solveError(err error) error {
	var step stepError
	var inputs, mounts []string
	var subject errdefs.IsSolve_Subject
	if errors.As(err, &step) {
		in, after := step.References()
		inputs, mounts, subject = b.keepMounts(in), b.keepMounts(after), step.Subject()
	}
	return errdefs.WithSolveError(err, subject, inputs, mounts)
}

// keepMounts gives IDs to references, "" to those that are nil. It returns nil if the front end has too many.
func (b *Bridge) keepMounts(refs []client.Reference) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mounts)+len(refs) > maxRefs {
		return nil
	}
	ids := make([]string, len(refs))
	for i, ref := range refs {
		if ref != nil {
			ids[i] = identity.NewID()
			b.mounts[ids[i]] = ref
		}
	}
	return ids
}
