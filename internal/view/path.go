package view

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"syscall"
)

// Clean makes any path, absolute or with .., relative to the root: "." is the root itself.
func Clean(name string) string {
	name = path.Clean("/" + name)[1:]
	if name == "" {
		return "."
	}
	return name
}

// Join is path.Join for names of a View.
func Join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// Split is path.Split for names of a View: the directory of "a" is ".".
func Split(name string) (dir, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return ".", name
}

// Compare orders paths as a walk meets them: a directory's content directly after it, siblings bytewise.
func Compare(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		case a[i] < b[i]:
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

func notExist(op, name string) error {
	return &fs.PathError{Op: op, Path: "/" + name, Err: fs.ErrNotExist}
}

// maxLinks is how many symlinks Resolve follows, as many as containerd's and BuildKit's RootPath.
const maxLinks = 255

// Resolve follows the symlinks in name inside the view's root, in the last component too if last is set, and returns the
// real path. An absolute target starts at the root again, ".." never leaves it, and what does not exist is kept as named.
func Resolve(ctx context.Context, v View, name string, last bool) (string, error) {
	return resolveBelow(ctx, v, ".", name, last)
}

// resolveBelow is Resolve with a directory of the view, itself resolved, as the root.
func resolveBelow(ctx context.Context, v View, root, name string, last bool) (string, error) {
	return resolve(ctx, v, root, name, last, false)
}

// resolveExisting is resolveBelow for what must be there, as it must for the kernel.
func resolveExisting(ctx context.Context, v View, root, name string, last bool) (string, error) {
	return resolve(ctx, v, root, name, last, true)
}

func resolve(ctx context.Context, v View, root, name string, last, exists bool) (string, error) {
	todo := strings.Split(path.Clean("/" + name)[1:], "/")
	at := "."
	links := 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := Join(at, part)
		e, err := v.Lstat(ctx, Clean(root+"/"+next))
		switch {
		case !exists && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)):
			at = next
			continue
		case err != nil:
			return "", err
		}
		if e.Type != TypeSymlink || (len(todo) == 0 && !last) {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "open", Path: "/" + name, Err: syscall.ELOOP}
		}
		if strings.HasPrefix(e.Linkname, "/") {
			at = "."
		}
		todo = append(strings.Split(e.Linkname, "/"), todo...)
	}
	return Clean(root + "/" + at), nil
}
