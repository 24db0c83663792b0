package control

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/micabuild/mica/internal/view"
)

// Write writes files into a directory of the client, which gives them its user as their owner.
func (c *sessionClient) Write(ctx context.Context, output string, v view.View) error {
	n, caller, err := c.output(ctx, output)
	if err != nil {
		return err
	}
	return filesync.CopyToCaller(ctx, &sentFiles{v}, n, caller, nil, filesync.WithExporterMultiPlatformTransfer())
}

// sentFiles is a view as fsutil sends it.
type sentFiles struct{ view view.View }

// Walk calls f for the files below a directory, parents first.
func (s *sentFiles) Walk(ctx context.Context, dir string, f fs.WalkDirFunc) error {
	if dir = path.Clean("/" + dir)[1:]; dir == "" {
		dir = "."
	}
	list, err := s.view.ReadDir(ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		err := f(e.Path, &fsutil.DirEntryInfo{Stat: statOf(e)}, nil)
		if err == nil && e.IsDir() {
			err = s.Walk(ctx, e.Path, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Open opens a file by a path of Walk.
func (s *sentFiles) Open(name string) (io.ReadCloser, error) {
	return s.view.Open(context.Background(), name)
}

// modes are the bits of types of files, as Go has them.
var modes = map[view.Type]fs.FileMode{
	view.TypeDir: fs.ModeDir, view.TypeSymlink: fs.ModeSymlink, view.TypeChar: fs.ModeDevice | fs.ModeCharDevice,
	view.TypeBlock: fs.ModeDevice, view.TypeFifo: fs.ModeNamedPipe, view.TypeSocket: fs.ModeSocket,
}

// statOf is the metadata of a file. The name of its content is that of its first hard link.
func statOf(e *view.Entry) *types.Stat {
	mode := modes[e.Type] | fs.FileMode(e.Mode&0o777)
	for bit, m := range map[uint32]fs.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if e.Mode&bit != 0 {
			mode |= m
		}
	}
	st := &types.Stat{
		Path: e.Path, Mode: uint32(mode), Uid: uint32(e.UID), Gid: uint32(e.GID), Size: e.Size, ModTime: e.ModTime.UnixNano(),
		Linkname: e.Linkname, Devmajor: e.Major, Devminor: e.Minor,
	}
	if e.Hardlink != "" {
		st.Linkname = e.Hardlink
	}
	for k, v := range e.Xattrs {
		if st.Xattrs == nil {
			st.Xattrs = map[string][]byte{}
		}
		st.Xattrs[k] = []byte(v)
	}
	return st
}
