package bridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"golang.org/x/sys/unix"
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
	r, err := readRequest(req)
	if err != nil {
		return nil, err
	}
	data, err := ref.ReadFile(ctx, r)
	if err != nil {
		return nil, b.readError(err, req.FilePath)
	}
	return &gwpb.ReadFileResponse{Data: data}, nil
}

// readError is the error of a call that reads a result: that of the file, or of the step that should have made it. Clients know a missing
// file by the words of the system.
func (b *Bridge) readError(err error, path string) error {
	var failed *errdefs.VertexError
	switch {
	case errors.As(err, &failed):
		return b.solveError(err)
	case errors.Is(err, fs.ErrNotExist) && !strings.Contains(err.Error(), unix.ENOENT.Error()):
		return &fs.PathError{Op: "lstat", Path: path, Err: unix.ENOENT}
	}
	return err
}

func readRequest(req *gwpb.ReadFileRequest) (client.ReadRequest, error) {
	r := client.ReadRequest{Filename: req.FilePath}
	if req.Range != nil {
		if req.Range.Offset < 0 || req.Range.Length < 0 {
			return r, fmt.Errorf("read %s: invalid range", req.FilePath)
		}
		r.Range = &client.FileRange{Offset: int(req.Range.Offset), Length: int(req.Range.Length)}
	}
	return r, nil
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
		return nil, b.readError(err, req.DirPath)
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
		return nil, b.readError(err, req.Path)
	}
	return &gwpb.StatFileResponse{Stat: st}, nil
}
