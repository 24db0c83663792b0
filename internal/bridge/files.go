package bridge

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
)

// reference begins a call that reads a result.
func (b *Bridge) reference(ctx context.Context, id string) (client.Reference, context.Context, func(), error) {
	ref, err := b.ref(id)
	if err == nil && ref == nil {
		err = fmt.Errorf("the empty filesystem has no files")
	}
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, done, err := b.call(ctx)
	return ref, ctx, done, err
}

// ReadFile returns the content of a file of a result.
func (b *Bridge) ReadFile(ctx context.Context, req *gwpb.ReadFileRequest) (*gwpb.ReadFileResponse, error) {
	ref, ctx, done, err := b.reference(ctx, req.Ref)
	if err != nil {
		return nil, err
	}
	defer done()
	r := client.ReadRequest{Filename: req.FilePath}
	if req.Range != nil {
		if req.Range.Offset < 0 || req.Range.Length < 0 {
			return nil, fmt.Errorf("read %s: invalid range", req.FilePath)
		}
		r.Range = &client.FileRange{Offset: int(req.Range.Offset), Length: int(req.Range.Length)}
	}
	data, err := ref.ReadFile(ctx, r)
	if err != nil {
		return nil, err
	}
	return &gwpb.ReadFileResponse{Data: data}, nil
}

// ReadDir lists a directory of a result.
func (b *Bridge) ReadDir(ctx context.Context, req *gwpb.ReadDirRequest) (*gwpb.ReadDirResponse, error) {
	ref, ctx, done, err := b.reference(ctx, req.Ref)
	if err != nil {
		return nil, err
	}
	defer done()
	list, err := ref.ReadDir(ctx, client.ReadDirRequest{Path: req.DirPath, IncludePattern: req.IncludePattern})
	if err != nil {
		return nil, err
	}
	return &gwpb.ReadDirResponse{Entries: list}, nil
}

// StatFile describes a file of a result.
func (b *Bridge) StatFile(ctx context.Context, req *gwpb.StatFileRequest) (*gwpb.StatFileResponse, error) {
	ref, ctx, done, err := b.reference(ctx, req.Ref)
	if err != nil {
		return nil, err
	}
	defer done()
	st, err := ref.StatFile(ctx, client.StatRequest{Path: req.Path})
	if err != nil {
		return nil, err
	}
	return &gwpb.StatFileResponse{Stat: st}, nil
}
