package view

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"
)

// Mkdir makes a directory; one that is there is left as it is (LLB's FileActionMkDir).
func (o *Overlay) Mkdir(ctx context.Context, name string, perm uint32, makeParents bool, owner *Chown, modTime *int64) error {
	p, err := Resolve(ctx, o, name, true)
	if err != nil {
		return err
	}
	if makeParents {
		return o.mkdirAll(ctx, p, perm&0o777, owner, modTime)
	}
	if _, err := o.Lstat(ctx, p); err == nil {
		return nil
	}
	if err := o.needParent(ctx, "mkdir", p); err != nil {
		return err
	}
	o.put(p, &file{entry: o.made(TypeDir, perm&0o777, owner, modTime)})
	return nil
}

// needParent checks that the directory of p is there.
func (o *Overlay) needParent(ctx context.Context, op, p string) error {
	d, err := o.Lstat(ctx, path.Dir(p))
	if err == nil && !d.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: "/" + p, Err: cause(err)}
	}
	return nil
}

// Mkfile writes a file; one that is there keeps its mode, and its owner if none is given (LLB's FileActionMkFile).
func (o *Overlay) Mkfile(ctx context.Context, name string, perm uint32, data []byte, owner *Chown, modTime *int64) error {
	p, err := Resolve(ctx, o, name, true)
	if err != nil {
		return err
	}
	if err := o.needParent(ctx, "open", p); err != nil {
		return err
	}
	e := o.made(TypeRegular, perm&0o777, owner, modTime)
	switch old, err := o.Lstat(ctx, p); {
	case err == nil && old.IsDir():
		return &fs.PathError{Op: "open", Path: "/" + p, Err: syscall.EISDIR}
	case err == nil && old.Type == TypeRegular:
		e.Mode = old.Mode
		if owner == nil {
			e.UID, e.GID = old.UID, old.GID
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	e.Size = int64(len(data))
	o.put(p, &file{entry: e, source: Files(map[string][]byte{"data": data}), sourcePath: "data"})
	return nil
}

// Symlink makes newpath a symlink to oldpath (LLB's FileActionSymlink).
func (o *Overlay) Symlink(ctx context.Context, oldpath, newpath string, owner *Chown, modTime *int64) error {
	p, err := Resolve(ctx, o, newpath, true)
	if err != nil {
		return err
	}
	if _, err := o.Lstat(ctx, p); err == nil {
		return &fs.PathError{Op: "symlink", Path: "/" + p, Err: fs.ErrExist}
	}
	if err := o.needParent(ctx, "symlink", p); err != nil {
		return err
	}
	e := o.made(TypeSymlink, 0o777, owner, modTime)
	e.Linkname = oldpath
	o.put(p, &file{entry: e})
	return nil
}

// Remove deletes a path with all that is in it; the last component is not followed (LLB's FileActionRm).
func (o *Overlay) Remove(ctx context.Context, name string, allowNotFound, allowWildcard bool) error {
	names := []string{name}
	if allowWildcard {
		matches, err := glob(ctx, o, name, false)
		if err != nil {
			return err
		}
		names = matches
	}
	for _, n := range names {
		p, err := Resolve(ctx, o, n, false)
		if err != nil {
			return err
		}
		if p == "." {
			return fmt.Errorf("cannot remove the root of the filesystem")
		}
		if _, err := o.Lstat(ctx, p); err != nil {
			if allowNotFound && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
		o.remove(p)
	}
	return nil
}
