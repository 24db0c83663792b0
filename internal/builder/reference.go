package builder

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// resultRef is a solved graph as the compiler sees it. A nil *resultRef is the empty filesystem.
type resultRef struct {
	solver  *solver.Solver
	result  *solver.Result
	def     *pb.Definition
	checker *dockerfile.Checker
	until   *until // nil for a build of the whole Dockerfile
	by      *request
	// err is why there is no result, if the front end gets it only when it uses the reference.
	err error
}

var _ client.Reference = (*resultRef)(nil)

func (r *resultRef) ToState() (llb.State, error) {
	if r == nil {
		return llb.Scratch(), nil
	}
	return stateOf("result", r.def)
}

// Definition is the graph that the reference is the result of, nil for the empty filesystem.
func (r *resultRef) Definition() *pb.Definition {
	if r == nil {
		return nil
	}
	return r.def
}

// Evaluate returns the error of the graph, which is solved before its reference is made.
func (r *resultRef) Evaluate(context.Context) error {
	if r == nil {
		return nil
	}
	return r.err
}

func (r *resultRef) view(ctx context.Context) (view.View, error) {
	if r == nil {
		return view.Empty(), nil
	}
	if r.err != nil {
		return nil, r.err
	}
	return r.solver.View(ctx, r.result)
}

// maxRead bounds a file that the compiler reads (a Dockerfile, an ignore file).
const maxRead = 16 << 20

// ReadFile returns a file's content. Its errors are those of the operating system.
func (r *resultRef) ReadFile(ctx context.Context, req client.ReadRequest) ([]byte, error) {
	v, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	data, err := readFile(ctx, v, req)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: req.Filename, Err: cause(err)}
	}
	if r != nil && req.Range == nil {
		if data, err = r.until.cut(req.Filename, data); err != nil {
			return nil, err
		}
		if err := r.checker.File(req.Filename, data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// cause removes the path that a lower level added.
func cause(err error) error {
	if pe, ok := err.(*fs.PathError); ok { //nolint:errorlint // only the outermost wrapping is replaced
		return pe.Err
	}
	return err
}

func readFile(ctx context.Context, v view.View, req client.ReadRequest) ([]byte, error) {
	name, err := view.Resolve(ctx, v, req.Filename, true)
	if err != nil {
		return nil, err
	}
	f, err := v.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	limit := int64(maxRead)
	if req.Range != nil {
		if _, err := io.CopyN(io.Discard, f, int64(req.Range.Offset)); err != nil {
			return nil, err
		}
		limit = min(limit, int64(req.Range.Length))
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		if req.Range == nil {
			return nil, fmt.Errorf("file is larger than %d bytes", limit)
		}
		data = data[:limit]
	}
	return data, nil
}

func (r *resultRef) StatFile(ctx context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	v, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	name, err := view.Resolve(ctx, v, req.Path, false)
	if err != nil {
		return nil, err
	}
	e, err := v.Lstat(ctx, name)
	if err != nil {
		return nil, err
	}
	return stat(e), nil
}

func (r *resultRef) ReadDir(ctx context.Context, req client.ReadDirRequest) ([]*fstypes.Stat, error) {
	v, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	name, err := view.Resolve(ctx, v, req.Path, true)
	if err != nil {
		return nil, err
	}
	entries, err := v.ReadDir(ctx, name)
	if err != nil {
		return nil, err
	}
	var stats []*fstypes.Stat
	for _, e := range entries {
		if req.IncludePattern != "" {
			ok, err := patternmatcher.MatchesOrParentMatches(path.Base(e.Path), []string{req.IncludePattern})
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		stats = append(stats, stat(e))
	}
	return stats, nil
}

// stat is an entry as fsutil describes it: Go's file mode bits, the base name.
func stat(e *view.Entry) *fstypes.Stat {
	mode := goMode(e.Mode)
	switch e.Type {
	case view.TypeDir:
		mode |= os.ModeDir
	case view.TypeSymlink:
		mode |= os.ModeSymlink
	case view.TypeChar:
		mode |= os.ModeDevice | os.ModeCharDevice
	case view.TypeBlock:
		mode |= os.ModeDevice
	case view.TypeFifo:
		mode |= os.ModeNamedPipe
	}
	return &fstypes.Stat{
		Path: path.Base(e.Path), Mode: uint32(mode), Uid: uint32(e.UID), Gid: uint32(e.GID), Size: e.Size,
		ModTime: e.ModTime.UnixNano(), Linkname: e.Linkname, Devmajor: e.Major, Devminor: e.Minor,
	}
}

// goMode turns Unix permission bits into Go's.
func goMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for bit, m := range map[uint32]fs.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if bits&bit != 0 {
			mode |= m
		}
	}
	return mode
}
