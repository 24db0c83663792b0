package builder

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/patternmatcher"
	fstypes "github.com/tonistiigi/fsutil/types"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/inroot"
)

// directory is the directory of a mount of the container, as processes have left it. The container does not end before done is called.
func (c *frontendContainer) directory(mount int) (_ *os.File, done func(), err error) {
	if mount < 0 || mount >= len(c.roots) {
		return nil, nil, fmt.Errorf("mount index %d is out of bounds (%d available)", mount, len(c.roots))
	}
	if done, err = c.sandbox.Hold(); err != nil {
		return nil, nil, err
	}
	f := c.sandbox.Root()
	if !c.roots[mount] {
		f = c.sandbox.Mount(c.state.Shown(mount))
	}
	if f == nil {
		done()
		return nil, nil, fmt.Errorf("mountable %d not found", mount)
	}
	return f, done, nil
}

// ReadFile reads a regular file of a mount.
func (c *frontendContainer) ReadFile(_ context.Context, req client.ReadContainerRequest) ([]byte, error) {
	dir, done, err := c.directory(req.MountIndex)
	if err != nil {
		return nil, err
	}
	defer done()
	f, err := inroot.OpenRegular(int(dir.Fd()), req.Filename)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: req.Filename, Err: err}
	}
	defer func() { _ = f.Close() }()
	return readRange(f, req.Range)
}

// readRange reads a part of a file, or all of one that is not large.
func readRange(f io.ReaderAt, part *client.FileRange) ([]byte, error) {
	from, limit := int64(0), int64(maxRead)
	if part != nil {
		from, limit = int64(part.Offset), min(limit, int64(part.Length))
	}
	data, err := io.ReadAll(io.NewSectionReader(f, from, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		if part == nil {
			return nil, fmt.Errorf("file is larger than %d bytes", limit)
		}
		data = data[:limit]
	}
	return data, nil
}

// StatFile describes a file of a mount.
func (c *frontendContainer) StatFile(_ context.Context, req client.StatContainerRequest) (*fstypes.Stat, error) {
	dir, done, err := c.directory(req.MountIndex)
	if err != nil {
		return nil, err
	}
	defer done()
	fd, err := inroot.Open(int(dir.Fd()), req.Path)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: req.Path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	return statFile(fd, "", path.Base(req.Path))
}

// statFile describes a file: that of a descriptor, or a name in its directory.
func statFile(fd int, name, shown string) (*fstypes.Stat, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: shown, Err: err}
	}
	mode := goMode(st.Mode & 0o7777)
	s := &fstypes.Stat{Path: shown, Uid: st.Uid, Gid: st.Gid, Size: st.Size, ModTime: st.Mtim.Nano()}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		mode, s.Size = mode|os.ModeDir, 0
	case unix.S_IFLNK:
		mode |= os.ModeSymlink
		to := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, name, to)
		if err != nil {
			return nil, &fs.PathError{Op: "readlink", Path: shown, Err: err}
		}
		s.Linkname = string(to[:n])
	case unix.S_IFCHR:
		mode |= os.ModeDevice | os.ModeCharDevice
	case unix.S_IFBLK:
		mode |= os.ModeDevice
	case unix.S_IFIFO:
		mode |= os.ModeNamedPipe
	}
	if mode&os.ModeDevice != 0 {
		s.Devmajor, s.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	s.Mode = uint32(mode)
	return s, nil
}

// ReadDir lists a directory of a mount.
func (c *frontendContainer) ReadDir(_ context.Context, req client.ReadDirContainerRequest) ([]*fstypes.Stat, error) {
	dir, done, err := c.directory(req.MountIndex)
	if err != nil {
		return nil, err
	}
	defer done()
	d, err := inroot.OpenList(int(dir.Fd()), req.Path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: req.Path, Err: err}
	}
	defer func() { _ = d.Close() }()
	names, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(names, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	var stats []*fstypes.Stat
	for _, entry := range names {
		if req.IncludePattern != "" {
			ok, err := patternmatcher.MatchesOrParentMatches(entry.Name(), []string{req.IncludePattern})
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		st, err := statFile(int(d.Fd()), entry.Name(), entry.Name())
		if err != nil {
			return nil, err
		}
		stats = append(stats, st)
	}
	return stats, nil
}
