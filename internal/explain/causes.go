package explain

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/view"
)

// fileCauses are the causes in one changed file: what changed in it, once each. step is the step that the file comes from.
func fileCauses(ch view.FileChange, step digest.Digest, ignored func(path string) (was, is bool)) []history.Cause {
	c := history.Cause{Kind: history.File, Name: ch.Path(), Step: step}
	if ch.Old != nil {
		c.OldSize = ch.Old.Size
	}
	if ch.New != nil {
		c.NewSize = ch.New.Size
	}
	was, is := ignored(c.Name)
	switch {
	case ch.Old == nil:
		c.Change, c.New = history.Added, ch.New.Digest.String()
		if was && !is {
			c.Kind, c.New, c.NewSize = history.Ignore, "", 0
		}
		return []history.Cause{c}
	case ch.New == nil:
		c.Change, c.Old = history.Removed, ch.Old.Digest.String()
		if is && !was {
			c.Kind, c.Old, c.OldSize = history.Ignore, "", 0
		}
		return []history.Cause{c}
	}
	var list []history.Cause
	add := func(change, old, now string) {
		if old != now {
			one := c
			one.Change, one.Old, one.New = change, old, now
			list = append(list, one)
		}
	}
	old, now := ch.Old, ch.New
	add(history.Type, typeName(old.Type), typeName(now.Type))
	if old.Type != now.Type {
		return list
	}
	add(history.Content, old.Digest.String(), now.Digest.String())
	add(history.Link, old.Linkname, now.Linkname)
	add(history.Link, old.Hardlink, now.Hardlink)
	add(history.Mode, fmt.Sprintf("%03o", old.Mode), fmt.Sprintf("%03o", now.Mode))
	add(history.Owner, fmt.Sprintf("%d:%d", old.UID, old.GID), fmt.Sprintf("%d:%d", now.UID, now.GID))
	add("device", fmt.Sprintf("%d:%d", old.Major, old.Minor), fmt.Sprintf("%d:%d", now.Major, now.Minor))
	if !maps.Equal(old.Xattrs, now.Xattrs) {
		one := c
		one.Change = history.Xattrs
		list = append(list, one)
	}
	return list
}

func typeName(t view.Type) string {
	names := map[view.Type]string{
		view.TypeRegular: "file", view.TypeDir: "directory", view.TypeSymlink: "symbolic link", view.TypeChar: "character device",
		view.TypeBlock: "block device", view.TypeFifo: "fifo", view.TypeSocket: "socket",
	}
	return names[t]
}

// base compares the base images of two stages.
func (c *comparison) base(now, old *history.Step) []history.Cause {
	if len(c.now.Platforms) == 1 && len(c.old.Platforms) == 1 && c.now.Platforms[0] != c.old.Platforms[0] {
		return []history.Cause{{Kind: history.Platform, Old: strings.Join(c.old.Platforms, ","), New: strings.Join(c.now.Platforms, ",")}}
	}
	name, oldName := imageName(now.Source.Identifier), imageName(old.Source.Identifier)
	if name != oldName {
		d := &difference{comparison: c, seen: map[history.Cause]bool{}}
		if d.derived(oldName, name) {
			return d.causes
		}
		return []history.Cause{{Kind: history.Base, Name: name, Old: oldName, New: name}}
	}
	added := 0
	for _, l := range now.Source.Layers {
		if !slices.Contains(old.Source.Layers, l) {
			added++
		}
	}
	change := fmt.Sprintf("%d layers", added)
	switch {
	case added == 1:
		change = "1 layer"
	case added == 0 && len(now.Source.Layers) < len(old.Source.Layers):
		change = "fewer layers"
	case added == 0:
		change = ""
	}
	return []history.Cause{{Kind: history.Base, Name: name, Change: change}}
}

// imageName is the name of a base image as users write it, without its digest.
func imageName(identifier string) string {
	_, name, _ := strings.Cut(identifier, "://")
	name, _, _ = strings.Cut(name, "@")
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		return reference.FamiliarString(named)
	}
	return name
}
