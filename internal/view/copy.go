package view

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/moby/patternmatcher"
	mode "github.com/tonistiigi/dchapes-mode"
)

// Chown is the owner of the files that an action makes.
type Chown struct{ UID, GID int }

// CopyOptions are the attributes of LLB's FileActionCopy.
type CopyOptions struct {
	Owner                            *Chown
	Mode                             *uint32
	ModeStr                          string // symbolic, "u+x,g=r"; it overrides Mode
	FollowSymlink                    bool   // a source that is a symlink is followed
	DirCopyContents                  bool   // of a directory, the content is copied, not the directory itself
	AttemptUnpack                    bool   // a source that is an archive is extracted
	CreateDestPath                   bool
	AllowWildcard                    bool
	AllowEmptyWildcard               bool
	ModTime                          *int64 // nanoseconds since 1970; nil keeps the source's
	IncludePatterns, ExcludePatterns []string
	RequiredPaths                    []string // must be among what the include patterns match
	AlwaysReplaceExistingDestPaths   bool
	// TempDir is where a compressed archive is spooled; its content is read from there until the changes are written.
	TempDir string
}

// Copy copies src, a path or pattern in from, to dest, as BuildKit's file backend does (solver/llbsolver/file and
// fsutil/copy), whose rules each function here follows.
func (o *Overlay) Copy(ctx context.Context, from View, src, dest string, opt CopyOptions) error {
	if !opt.CreateDestPath {
		p, err := Resolve(ctx, o, dest, true)
		if err != nil {
			return err
		}
		if _, err := o.Lstat(ctx, path.Dir(p)); err != nil {
			return fmt.Errorf("failed to stat %s: %w", dest, err)
		}
	}
	matches := []string{Clean(src)}
	if opt.AllowWildcard {
		var err error
		if matches, err = glob(ctx, from, src, opt.FollowSymlink); err != nil {
			return err
		}
		if len(matches) == 0 {
			if opt.AllowEmptyWildcard {
				return nil
			}
			return notExist("open", Clean(src))
		}
	}
	for _, m := range matches {
		if opt.AttemptUnpack {
			done, err := o.unpack(ctx, from, m, dest, opt)
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		if err := o.copyOne(ctx, from, m, dest, opt); err != nil {
			return err
		}
	}
	return nil
}

// copier is one source being copied.
type copier struct {
	o                *Overlay
	ctx              context.Context
	from             View
	opt              CopyOptions
	modes            *mode.Set
	include, exclude *patternmatcher.PatternMatcher
	copied           map[string]*file // files by their first name in the source: hardlinks stay hardlinks
	parents          []parentDir
	matched          map[string]bool // paths, relative to the source, that were copied: for RequiredPaths
}

// parentDir is a source directory on the way to what is being copied. One that the include patterns do not match
// themselves is made only when something in it is.
type parentDir struct {
	entry  *Entry
	dst    string
	copied bool
}

func (o *Overlay) copyOne(ctx context.Context, from View, src, dest string, opt CopyOptions) error {
	c := &copier{o: o, ctx: ctx, from: from, opt: opt, copied: map[string]*file{}}
	if err := c.patterns(); err != nil {
		return err
	}
	if opt.ModeStr != "" {
		set, err := mode.ParseWithUmask(opt.ModeStr, 0)
		if err != nil {
			return fmt.Errorf("invalid mode %q: %w", opt.ModeStr, err)
		}
		c.modes = &set
	}
	// "dest/" and "dest/." name a directory; otherwise it is the directory of dest that must exist.
	directory := dest
	if base := dest[strings.LastIndexByte(dest, '/')+1:]; base != "" && base != "." {
		directory = strings.TrimSuffix(dest, base)
	}
	if directory != "" {
		if err := c.mkdirAll(directory); err != nil {
			return err
		}
	}
	real, err := Resolve(ctx, from, src, opt.FollowSymlink)
	if err != nil {
		return err
	}
	e, err := from.Lstat(ctx, real)
	if errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(c.checkRequired(src), err) // of what is not there, that which is asked for is named
	}
	if err != nil {
		return err
	}
	target, err := c.target(e, src, dest)
	if err != nil {
		return err
	}
	if err := c.copy(e, "", target, false, patternmatcher.MatchInfo{}, patternmatcher.MatchInfo{}); err != nil {
		return err
	}
	return c.checkRequired(src)
}

func (c *copier) patterns() (err error) {
	if len(c.opt.IncludePatterns) > 0 {
		if c.include, err = patternmatcher.New(c.opt.IncludePatterns); err != nil {
			return fmt.Errorf("invalid include patterns %q: %w", c.opt.IncludePatterns, err)
		}
		c.matched = map[string]bool{}
	}
	if len(c.opt.ExcludePatterns) > 0 {
		if c.exclude, err = patternmatcher.New(c.opt.ExcludePatterns); err != nil {
			return fmt.Errorf("invalid exclude patterns %q: %w", c.opt.ExcludePatterns, err)
		}
	}
	return nil
}

// checkRequired: each path that must be copied was. Required paths are those of the whole source, matched ones are below
// src.
func (c *copier) checkRequired(src string) error {
	if c.include == nil {
		return nil
	}
	for _, p := range c.opt.RequiredPaths {
		rel := strings.TrimPrefix(Clean(p), strings.TrimPrefix(Clean(src)+"/", "./"))
		if !c.matched[rel] {
			return notExist("open", Clean(path.Join(src, rel)))
		}
	}
	return nil
}

// dirMode is the mode of directories that a copy has to make on the way.
func (c *copier) dirMode() uint32 {
	if c.opt.Mode != nil && c.opt.ModeStr == "" {
		return *c.opt.Mode & 0o777 // BuildKit loses the special bits here
	}
	return 0o755
}

func (c *copier) mkdirAll(name string) error {
	p, err := Resolve(c.ctx, c.o, name, true)
	if err != nil {
		return err
	}
	return c.o.mkdirAll(c.ctx, p, c.dirMode(), c.opt.Owner, c.opt.ModTime)
}

// target finds the path that a source is copied to: dest itself, or below dest when that is a directory.
func (c *copier) target(e *Entry, src, dest string) (string, error) {
	target, err := Resolve(c.ctx, c.o, dest, true)
	if err != nil {
		return "", err
	}
	d, err := c.o.Lstat(c.ctx, target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("failed to stat destination path: %w", err)
	}
	contents := c.opt.DirCopyContents && e.IsDir()
	if (e.IsDir() && !contents && d != nil) || (!e.IsDir() && d != nil && d.IsDir()) {
		// The root has no name of its own: its contents are what is copied.
		if base := path.Base(path.Clean("/" + src)); base != "/" {
			target = Join(target, base)
		}
	}
	parent := path.Dir(target)
	if contents && d == nil {
		parent = target
	}
	return target, c.o.mkdirAll(c.ctx, parent, c.dirMode(), c.opt.Owner, c.opt.ModTime)
}

// copy copies one entry, rel below the source's root ("" is the source itself), and what is in it. overwrite says that
// a directory which exists gets the source's metadata: true for all but the topmost.
func (c *copier) copy(e *Entry, rel, target string, overwrite bool, up, upEx patternmatcher.MatchInfo) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	include, excluded := true, false
	var in, ex patternmatcher.MatchInfo
	if rel != "" {
		var err error
		if include, excluded, in, ex, err = c.match(rel, up, upEx); err != nil {
			return err
		}
	}
	if !include && !e.IsDir() {
		return nil
	}
	if include {
		if c.matched != nil {
			c.matched[rel] = true
		}
		if err := c.makeRoom(e, target); err != nil {
			return err
		}
		if err := c.makeParents(overwrite); err != nil {
			return err
		}
	}
	if e.IsDir() {
		return c.dir(e, rel, target, overwrite, include, excluded, in, ex)
	}
	return c.file(e, target)
}

func (c *copier) match(rel string, up, upEx patternmatcher.MatchInfo) (include, excluded bool, in, ex patternmatcher.MatchInfo, err error) {
	include = true
	if c.include != nil {
		if include, in, err = c.include.MatchesUsingParentResults(rel, up); err != nil {
			return false, false, in, ex, fmt.Errorf("match include patterns: %w", err)
		}
	}
	if c.exclude != nil {
		if excluded, ex, err = c.exclude.MatchesUsingParentResults(rel, upEx); err != nil {
			return false, false, in, ex, fmt.Errorf("match exclude patterns: %w", err)
		}
	}
	return include && !excluded, excluded, in, ex, nil
}

// makeRoom removes what stands where e goes, if that is asked for; directories are merged.
func (c *copier) makeRoom(e *Entry, target string) error {
	if !c.opt.AlwaysReplaceExistingDestPaths {
		return nil
	}
	d, err := c.o.Lstat(c.ctx, target)
	if err != nil || (d.IsDir() && e.IsDir()) {
		return nil //nolint:nilerr // nothing is in the way
	}
	c.o.remove(target)
	return nil
}

// makeParents makes the directories that were waiting for something in them to match.
func (c *copier) makeParents(overwrite bool) error {
	for i := range c.parents {
		p := &c.parents[i]
		if p.copied {
			continue
		}
		if _, err := c.makeDir(p.entry, p.dst, overwrite); err != nil {
			return err
		}
		p.copied = true
	}
	return nil
}

// makeDir makes a directory like e unless there is one.
func (c *copier) makeDir(e *Entry, target string, overwrite bool) (created bool, err error) {
	d, err := c.o.Lstat(c.ctx, target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.o.put(target, &file{entry: c.metadata(e)})
		return true, nil
	case err != nil:
		return false, err
	case !d.IsDir():
		return false, fmt.Errorf("cannot copy to non-directory: /%s", target)
	case overwrite && d.Mode != e.Mode:
		changed := d.Clone()
		changed.Mode = e.Mode
		c.o.put(target, &file{entry: *changed})
	}
	return false, nil
}

func (c *copier) dir(e *Entry, rel, target string, overwrite, include, excluded bool, in, ex patternmatcher.MatchInfo) error {
	if include {
		created, err := c.makeDir(e, target, overwrite)
		if err != nil {
			return err
		}
		if overwrite && !created {
			c.o.put(target, &file{entry: c.metadata(e)})
		}
	}
	if excluded && (c.exclude == nil || !c.exclude.Exclusions()) {
		return nil
	}
	c.parents = append(c.parents, parentDir{e, target, include})
	defer func() { c.parents = c.parents[:len(c.parents)-1] }()
	entries, err := c.from.ReadDir(c.ctx, e.Path)
	if err != nil {
		return err
	}
	for _, k := range entries {
		base := path.Base(k.Path)
		if err := c.copy(k, path.Join(rel, base), Join(target, base), true, in, ex); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) file(e *Entry, target string) error {
	d, err := c.o.Lstat(c.ctx, target)
	switch {
	case err == nil && d.IsDir():
		return fmt.Errorf("cannot replace to directory /%s with file", target)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("failed to stat /%s: %w", target, err)
	}
	if e.Type != TypeRegular {
		c.o.put(target, &file{entry: c.metadata(e)})
		return nil
	}
	first := e.Path
	if e.Hardlink != "" {
		first = e.Hardlink
	}
	f, ok := c.copied[first]
	if !ok {
		f = &file{entry: c.metadata(e), source: c.from, sourcePath: e.Path}
		c.copied[first] = f
	}
	c.o.put(target, f)
	return nil
}

// metadata is the entry that a copy of e gets.
func (c *copier) metadata(e *Entry) Entry {
	m := *e
	m.Path, m.Hardlink, m.Opaque = "", "", false
	if c.opt.Owner != nil {
		m.UID, m.GID = c.opt.Owner.UID, c.opt.Owner.GID
	}
	switch {
	case e.Type == TypeSymlink:
	case c.modes != nil:
		m.Mode = UnixMode(c.modes.Apply(e.FileMode()))
	case c.opt.Mode != nil:
		m.Mode = *c.opt.Mode & 0o7777
	}
	if c.opt.ModTime != nil {
		m.ModTime = time.Unix(0, *c.opt.ModTime).UTC()
	}
	return m
}

// mkdirAll makes a directory and what it needs above it. name is resolved: it holds no symlink that can be followed.
func (o *Overlay) mkdirAll(ctx context.Context, name string, perm uint32, owner *Chown, modTime *int64) error {
	e, err := o.Lstat(ctx, name)
	switch {
	case err == nil && e.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: "/" + name, Err: syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := o.mkdirAll(ctx, path.Dir(name), perm, owner, modTime); err != nil {
		return err
	}
	o.put(name, &file{entry: o.made(TypeDir, perm, owner, modTime)})
	return nil
}

// made is the entry of something that has no source: owned by root and made now, unless the options have others.
func (o *Overlay) made(t Type, perm uint32, owner *Chown, modTime *int64) Entry {
	e := Entry{Type: t, Mode: perm & 0o7777, ModTime: o.now}
	if owner != nil {
		e.UID, e.GID = owner.UID, owner.GID
	}
	if modTime != nil {
		e.ModTime = time.Unix(0, *modTime).UTC()
	}
	return e
}
