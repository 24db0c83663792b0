package control

import (
	"context"
	"io/fs"
	"slices"
	"sync"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/dockerbuild"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/store"
)

// maxParts is how many parts of records clients can read after they have got the records.
const maxParts = 4096

// parts are the provenance, the errors and the times of builds, which are made from the history when a client reads them. Their images are in
// the store: manifests, and what they attest.
type parts struct {
	contentapi.UnimplementedContentServer
	find  func(ref string) (*history.Build, error)
	store *store.Store
	shown shown

	mu    sync.Mutex
	made  map[digest.Digest]source
	order []digest.Digest // oldest first
}

// source is what a part is made of.
type source struct {
	ref   string
	write func(*history.Build) (*dockerbuild.Part, error)
}

func newParts(s *store.Store) *parts {
	return &parts{find: history.Open(s).Find, store: s, made: map[digest.Digest]source{}}
}

// add describes a part of a build; nil for one that cannot be made.
func (p *parts) add(b *history.Build, write func(*history.Build) (*dockerbuild.Part, error)) *controlapi.Descriptor {
	part, err := write(b)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := part.Descriptor
	if _, ok := p.made[d.Digest]; !ok {
		p.order = append(p.order, d.Digest)
		if len(p.order) > maxParts {
			delete(p.made, p.order[0])
			p.order = p.order[1:]
		}
	}
	p.made[d.Digest] = source{b.Ref, write}
	return descriptor(d)
}

func descriptor(d ocispec.Descriptor) *controlapi.Descriptor {
	return &controlapi.Descriptor{MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size, Annotations: d.Annotations}
}

// get makes a part again.
func (p *parts) get(d string) (*dockerbuild.Part, error) {
	missing := status.Errorf(codes.NotFound, "content %s: not found", d)
	p.mu.Lock()
	src, ok := p.made[digest.Digest(d)]
	p.mu.Unlock()
	if !ok {
		if part, err := p.stored(digest.Digest(d)); err == nil {
			return part, nil
		}
		return nil, missing
	}
	b, err := p.find(src.ref)
	if err != nil {
		return nil, missing
	}
	part, err := src.write(b)
	if err != nil || part.Descriptor.Digest.String() != d { // the build has gone on since
		return nil, missing
	}
	return part, nil
}

// stored reads a small blob of the store that clients can read: a manifest, a config or an attestation. What it lists can be read then.
func (p *parts) stored(name digest.Digest) (*dockerbuild.Part, error) {
	mediaType, ok := p.shown.find(name)
	if !ok {
		return nil, fs.ErrNotExist
	}
	data, err := p.store.ReadBlob(name)
	if err != nil {
		return nil, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: name, Size: int64(len(data))}
	p.shown.add(listed(d, data)...)
	return &dockerbuild.Part{Descriptor: d, Data: data}, nil
}

// Info returns the size of a part.
func (p *parts) Info(_ context.Context, req *contentapi.InfoRequest) (*contentapi.InfoResponse, error) {
	part, err := p.get(req.Digest)
	if err != nil {
		return nil, err
	}
	return &contentapi.InfoResponse{Info: &contentapi.Info{Digest: req.Digest, Size: part.Descriptor.Size}}, nil
}

// List sends the parts that clients can read. It knows no filters.
func (p *parts) List(req *contentapi.ListContentRequest, stream contentapi.Content_ListServer) error {
	if len(req.Filters) > 0 {
		return status.Error(codes.Unimplemented, "content cannot be filtered")
	}
	p.mu.Lock()
	all := slices.Clone(p.order)
	p.mu.Unlock()
	for _, d := range all {
		part, err := p.get(d.String())
		if err != nil { // its build has been removed
			continue
		}
		info := &contentapi.Info{Digest: d.String(), Size: part.Descriptor.Size}
		if err := stream.Send(&contentapi.ListContentResponse{Info: []*contentapi.Info{info}}); err != nil {
			return err
		}
	}
	return nil
}

// maxChunk is how much of a part one message has.
const maxChunk = 1 << 20

// Read sends a part, or some bytes of it.
func (p *parts) Read(req *contentapi.ReadContentRequest, stream contentapi.Content_ReadServer) error {
	part, err := p.get(req.Digest)
	if err != nil {
		return err
	}
	total := int64(len(part.Data))
	end := total
	if req.Offset < 0 || req.Offset > total || req.Size < 0 {
		return status.Errorf(codes.OutOfRange, "content %s: it has %d bytes", req.Digest, total)
	}
	if req.Size > 0 {
		end = min(total, req.Offset+min(req.Size, total))
	}
	for at := req.Offset; at < end; at += maxChunk {
		if err := stream.Send(&contentapi.ReadContentResponse{Offset: at, Data: part.Data[at:min(end, at+maxChunk)]}); err != nil {
			return err
		}
	}
	return nil
}
