package view

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// followPaths turns the paths that a build wants into include patterns: each path, and where a symlink is on the way,
// the link and what it points at (fsutil's FollowLinks). Nothing outside root is looked at.
func followPaths(root *os.Root, paths []string) ([]string, error) {
	// The package os does not export the error for a path that leaves the root.
	_, err := root.Lstat("..")
	f := &follower{root: root, escape: cause(err), found: map[string]bool{}}
	for _, p := range paths {
		if err := f.add(p); err != nil {
			return nil, err
		}
	}
	return f.patterns(), nil
}

type follower struct {
	root   *os.Root
	escape error // of root, for a path below a link to the outside
	found  map[string]bool
}

func (f *follower) patterns() []string {
	var list []string
	for p := range f.found {
		if p == "." {
			return nil // the whole directory is wanted
		}
		list = append(list, p)
	}
	slices.SortFunc(list, Compare)
	return slices.CompactFunc(list, func(a, b string) bool { return strings.HasPrefix(b, a+"/") })
}

func (f *follower) add(p string) error {
	rest := Clean(p)
	at := "."
	for {
		part, more, _ := strings.Cut(rest, "/")
		at, rest = path.Join(at, part), more
		targets, err := f.links(at, true)
		if err != nil {
			return err
		}
		if (rest == "" || targets != nil) && f.found[at] {
			return nil
		}
		if targets != nil {
			f.found[at] = true
			for _, t := range targets {
				if err := f.add(path.Join(t, rest)); err != nil {
					return err
				}
			}
			return nil
		}
		if rest == "" {
			f.found[at] = true
			return nil
		}
	}
}

// links returns the targets, inside the root, of a symlink or of the symlinks that a wildcard matches.
func (f *follower) links(name string, wildcard bool) ([]string, error) {
	if name == "." {
		return nil, nil
	}
	if base := path.Base(name); wildcard && hasWildcard(base) {
		return f.globLinks(path.Dir(name), base)
	}
	info, err := f.root.Lstat(name)
	if f.absent(err) {
		return nil, nil
	}
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return nil, err
	}
	target, err := f.root.Readlink(name)
	if err != nil {
		return nil, err
	}
	if !path.IsAbs(target) {
		target = path.Join("/", path.Dir(name), target)
	}
	return []string{Clean(target)}, nil
}

// absent reports whether the root has no file of a name: a part of the path is missing, is not a directory or leads outside.
func (f *follower) absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, f.escape)
}

func (f *follower) globLinks(dir, pattern string) ([]string, error) {
	d, err := f.root.Open(dir)
	if f.absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, nil // the copy names it
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var targets []string
	for _, n := range names {
		if ok, _ := path.Match(pattern, n); ok {
			t, err := f.links(path.Join(dir, n), false)
			if err != nil {
				return nil, err
			}
			targets = append(targets, t...)
		}
	}
	return targets, nil
}
