package sandbox

import (
	"fmt"
	"os"
	"path"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/user"

	"github.com/micabuild/mica/internal/account"
	"github.com/micabuild/mica/internal/podroot"
)

// cwd returns the working directory of the process.
func (b *bundle) cwd() string {
	if b.p.Cwd == "" {
		return "/"
	}
	return path.Clean("/" + b.p.Cwd)
}

// makeCwd makes the working directory if it is missing: owned by the user, as BuildKit does, or by root, as Docker.
func (b *bundle) makeCwd() error {
	if b.p.Cwd == "" {
		return nil
	}
	dir, err := securejoin.SecureJoin(b.rootfs, b.p.Cwd)
	if err != nil {
		return fmt.Errorf("working directory %s: %w", b.p.Cwd, err)
	}
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("working directory %s is not a directory", b.p.Cwd)
		}
		return nil
	}
	if b.p.ReadOnlyRoot || b.p.Root.Upper == "" && b.p.Plain == nil {
		return nil // the runtime says so if it matters
	}
	owner := b.ids
	if b.p.RootOwnsCwd {
		owner = account.IDs{}
	}
	if b.p.Plain != nil && b.p.Plain.Owners() != nil {
		err = podroot.MakeDir(b.p.Plain.Owners(), dir, owner.UID, owner.GID)
	} else {
		err = user.MkdirAllAndChown(dir, 0o755, int(owner.UID), int(owner.GID))
	}
	if err != nil {
		return fmt.Errorf("make working directory %s: %w", b.p.Cwd, cause(err))
	}
	return nil
}
