package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/cachemount"
	"github.com/micabuild/mica/internal/dirsync"
	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/solver/ops"
	"github.com/micabuild/mica/internal/view"
)

// Sync copies files of the client to a directory, and returns a view of it. Directories are kept between builds: only what has changed is sent
// then. The key of another client, or of another directory, names another one; two builds at the same time do not share one either. All
// clients without a key have one key together: see received.again.
func (c *sessionClient) Sync(ctx context.Context, src ops.Remote, opt view.DirOptions) (view.View, error) {
	caller, err := c.owner(ctx, src.Session)
	if err != nil {
		return nil, fmt.Errorf("local source %s: %w", src.Name, err)
	}
	v, err := c.receive(ctx, caller, src, opt)
	if err != nil {
		return nil, fmt.Errorf("local source %s: %w", src.Name, err)
	}
	return v, nil
}

// owner is the session that has a directory: the one that the build names, or that of the build if there is no such session.
func (c *sessionClient) owner(ctx context.Context, id string) (session.Caller, error) {
	if id == "" || id == c.id {
		return c.caller(ctx)
	}
	named := &sessionClient{sessions: c.sessions, id: id}
	if caller, err := named.caller(ctx); err == nil || c.id == "" || ctx.Err() != nil {
		return caller, err
	}
	return c.caller(ctx)
}

func (c *sessionClient) receive(ctx context.Context, caller session.Caller, src ops.Remote, opt view.DirOptions) (view.View, error) {
	transfer, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	received, err := newReceived(cancel, src.Sent)
	if err != nil {
		return nil, err
	}
	received.again = caller.SharedKey() == ""
	var v view.View
	if src.Described {
		v, err = c.receiveMetadata(transfer, caller, &src, opt, received)
	} else {
		v, err = c.receiveFiles(transfer, caller, &src, opt, received)
	}
	if cause := context.Cause(transfer); errors.Is(cause, quota.ErrExceeded) || errors.Is(cause, errDirectoryItself) {
		err = cause
	}
	return v, err
}

// receiveFiles receives what has changed in a directory.
func (c *sessionClient) receiveFiles(
	ctx context.Context, caller session.Caller, src *ops.Remote, opt view.DirOptions, received *received,
) (_ view.View, err error) {
	to := dirsync.Options{File: received.file, Progress: received.progress}
	if src.Once {
		to.Temp = c.temp
	} else if to.Dir, err = c.directory(ctx, caller.SharedKey(), src); err != nil {
		return nil, err
	}
	req := dirsync.Request{Name: src.Name, Include: opt.Include, Exclude: opt.Exclude, Follow: opt.Follow}
	files, err := dirsync.From(ctx, caller, req, to)
	if err != nil {
		return nil, err
	}
	return files.View(opt.Digests), nil
}

// receiveMetadata receives the metadata of a directory, and few of its files.
func (c *sessionClient) receiveMetadata(
	ctx context.Context, caller session.Caller, src *ops.Remote, opt view.DirOptions, received *received,
) (view.View, error) {
	path, err := c.plainDirectory(ctx, caller.SharedKey(), src)
	if err != nil {
		return nil, err
	}
	wanted, err := withContent(src, received.end)
	if err != nil {
		return nil, err
	}
	dir := directory{path, path + ".partial"}
	if err := dir.prepare(); err != nil {
		return nil, err
	}
	err = filesync.FSSync(ctx, caller, filesync.FSSendRequestOpt{
		MetadataOnly: true, MetadataOnlyFilter: wanted,
		Name: src.Name, DestDir: path, IncludePatterns: opt.Include, ExcludePatterns: opt.Exclude, FollowPaths: opt.Follow,
		ProgressCb: received.progress, Filter: received.described,
	})
	if err == nil {
		err = dir.finish()
	}
	if err != nil {
		return nil, err
	}
	return view.Dir(path, view.DirOptions{Digests: opt.Digests, Anonymous: opt.Anonymous})
}

// temp returns an empty directory that is there until the build ends.
func (c *sessionClient) temp() (string, error) {
	tmp, err := c.store.TempDir("context")
	if err != nil {
		return "", err
	}
	c.atEnd(tmp.Remove)
	return tmp.Path, nil
}

// directory returns one that no other build uses until this one ends.
func (c *sessionClient) directory(ctx context.Context, shared string, src *ops.Remote) (string, error) {
	mounts := cachemount.New(c.store)
	key := fmt.Sprintf("client/%q/%q/%q", shared, src.Name, src.Key)
	if src.Described {
		key += "/metadata"
	}
	mount, id := cachemount.ClientFiles(src.Name, key)
	locks, err := mounts.Lock(ctx, map[string]pb.CacheSharingOpt{mount: pb.CacheSharingOpt_PRIVATE})
	if err != nil {
		return "", err
	}
	c.atEnd(locks.Unlock)
	return mounts.Open(ctx, locks.Name(mount), id, func() (view.View, error) { return view.Empty(), nil })
}

// plainDirectory returns a directory for files that are received as files.
func (c *sessionClient) plainDirectory(ctx context.Context, shared string, src *ops.Remote) (string, error) {
	if !src.Once {
		return c.directory(ctx, shared, src)
	}
	temp, err := c.temp()
	if err != nil {
		return "", err
	}
	path := filepath.Join(temp, "files")
	return path, os.Mkdir(path, 0o755)
}

// directory is where files are received as files.
type directory struct {
	path string
	// partial exists while files are received. What is there after a build that was killed is not complete.
	partial string
}

// prepare removes what an interrupted build has left.
func (d *directory) prepare() error {
	f, err := os.OpenFile(d.partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.RemoveAll(d.path); err != nil {
		return err
	}
	return os.Mkdir(d.path, 0o755)
}

// finish notes that all files were received.
func (d *directory) finish() error { return os.Remove(d.partial) }
