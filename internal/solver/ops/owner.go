package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/sys/user"

	"github.com/micabuild/mica/internal/view"
)

// actionOwner returns the owner that a file action gives to the files that it makes; nil for root.
func actionOwner(a *pb.FileAction) *pb.ChownOpt {
	switch a := a.Action.(type) {
	case *pb.FileAction_Copy:
		return a.Copy.Owner
	case *pb.FileAction_Mkdir:
		return a.Mkdir.Owner
	case *pb.FileAction_Mkfile:
		return a.Mkfile.Owner
	case *pb.FileAction_Symlink:
		return a.Symlink.Owner
	}
	return nil
}

// owners returns the names in an owner that have to be looked up.
func owners(c *pb.ChownOpt) []*pb.NamedUserOpt {
	var names []*pb.NamedUserOpt
	for _, u := range []*pb.UserOpt{c.GetUser(), c.GetGroup()} {
		if n := u.GetByName(); n != nil {
			names = append(names, n)
		}
	}
	return names
}

// owner resolves names by the image's own /etc/passwd and /etc/group. As in BuildKit, a user's primary group is taken
// when no group is given, and a name that the image does not know is root.
func (r *fileRun) owner(ctx context.Context, c *pb.ChownOpt) (*view.Chown, error) {
	if c == nil {
		return nil, nil
	}
	var o view.Chown
	switch u := c.User.GetUser().(type) {
	case *pb.UserOpt_ByID:
		o = view.Chown{UID: int(u.ByID), GID: int(u.ByID)}
	case *pb.UserOpt_ByName:
		err := r.readAccounts(ctx, u.ByName, "etc/passwd", func(f io.Reader) error {
			found, err := user.ParsePasswdFilter(f, func(e user.User) bool { return e.Name == u.ByName.Name })
			if len(found) > 0 {
				o = view.Chown{UID: found[0].Uid, GID: found[0].Gid}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	switch g := c.Group.GetUser().(type) {
	case *pb.UserOpt_ByID:
		o.GID = int(g.ByID)
	case *pb.UserOpt_ByName:
		err := r.readAccounts(ctx, g.ByName, "etc/group", func(f io.Reader) error {
			found, err := user.ParseGroupFilter(f, func(e user.Group) bool { return e.Name == g.ByName.Name })
			if len(found) > 0 {
				o.GID = found[0].Gid
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return &o, nil
}

// maxAccounts is how much is read of a passwd or group file, in bytes; BuildKit reads as much.
const maxAccounts = 10 << 20

// readAccounts parses the file called name of the image in which a user or group is looked up. A missing file counts as empty.
func (r *fileRun) readAccounts(ctx context.Context, n *pb.NamedUserOpt, name string, parse func(io.Reader) error) error {
	if n.Input < 0 {
		return fmt.Errorf("user or group %q is unknown: there is no image to look it up in", n.Name)
	}
	v, err := r.source(ctx, n.Input)
	if err != nil {
		return err
	}
	f, err := openResolved(ctx, v, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up %q in /%s: %w", n.Name, name, err)
	}
	defer func() { _ = f.Close() }()
	if err := parse(io.LimitReader(f, maxAccounts)); err != nil {
		return fmt.Errorf("look up %q in /%s: %w", n.Name, name, err)
	}
	return nil
}

// openResolved opens a regular file of v, following symlinks inside v.
func openResolved(ctx context.Context, v view.View, name string) (io.ReadCloser, error) {
	real, err := view.Resolve(ctx, v, name, true)
	if err != nil {
		return nil, err
	}
	return v.Open(ctx, real)
}
