package bake

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/buildspec"
)

func (c *Config) group(name string) *Group {
	for _, g := range c.Groups {
		if g.Name == name {
			return g
		}
	}
	return nil
}

func (c *Config) target(name string) *Target {
	for _, t := range c.Targets {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// match lists the groups and targets whose names match a pattern.
func (c *Config) match(pattern string) []string {
	var names []string
	for _, g := range c.Groups {
		names = append(names, g.Name)
	}
	for _, t := range c.Targets {
		names = append(names, t.Name)
	}
	return slices.DeleteFunc(names, func(name string) bool {
		ok, err := path.Match(pattern, name)
		return !ok || err != nil
	})
}

// members are the targets of a name, and the groups that lead to them. A group that contains its own name means the target of
// that name.
func (c *Config) members(name string) (targets, groups []string) {
	type members struct{ targets, groups []string }
	seen := map[string]*members{}
	var visit func(string) *members
	visit = func(name string) *members {
		if m, ok := seen[name]; ok {
			return m
		}
		g := c.group(name)
		if g == nil {
			return &members{targets: []string{name}}
		}
		seen[name] = &members{}
		m := &members{groups: []string{name}}
		for _, t := range g.Targets {
			inner := visit(t)
			if len(inner.targets) == 0 {
				inner = &members{targets: []string{t}}
			}
			// Without duplicates at every level: where groups meet again, the lists would double with each.
			m.targets, m.groups = unique(slices.Concat(m.targets, inner.targets)), unique(slices.Concat(m.groups, inner.groups))
		}
		seen[name] = m
		return m
	}
	m := visit(name)
	return m.targets, m.groups
}

// resolver makes complete targets of files and overrides.
type resolver struct {
	config    *Config
	overrides map[string][]override
	parents   map[string]*Target // results of inherited
	targets   map[string]*Target
	linked    map[string]linkState
	granted   Grants // the paths and entitlements that overrides name
}

// linkState says how far the links of a target were followed.
type linkState int

const (
	linkOpen linkState = iota + 1 // they are being followed
	linkDone
)

// target resolves a target: what it inherits, its own values, the overrides.
func (r *resolver) target(name string) (*Target, error) {
	inherited, err := r.inherited(name, nil)
	if err != nil {
		return nil, err
	}
	t := new(*inherited)
	t.Name = name
	if t.Context == nil {
		t.Context = ref(t.base.fallback())
	}
	t.Context = ref(cleanContext(*t.Context))
	if t.Dockerfile == nil || *t.Dockerfile == "" {
		t.Dockerfile = ref("Dockerfile")
	}
	return t, nil
}

// cleanContext is the context in its shortest form.
func cleanContext(context string) string {
	if !IsPath(context) {
		return context
	}
	return path.Clean(strings.TrimPrefix(context, "cwd://"))
}

// inherited merges a target with those that it inherits, and applies its overrides. The caller must not change the result. path
// is the way to it. Each target is resolved once: where paths meet again, their number grows exponentially.
func (r *resolver) inherited(name string, path []string) (*Target, error) {
	if t, ok := r.parents[name]; ok {
		return t, nil
	}
	own := r.config.target(name)
	if own == nil {
		return nil, fmt.Errorf("failed to find target %s", name)
	}
	path = append(slices.Clone(path), name)
	t := &Target{}
	for _, parent := range own.Inherits {
		if slices.Contains(path, parent) {
			return nil, fmt.Errorf("target %s inherits from itself: %s", parent, strings.Join(append(path, parent), " → "))
		}
		p, err := r.inherited(parent, path)
		if err != nil {
			return nil, err
		}
		t.Merge(p)
	}
	t.Merge(own)
	for _, o := range r.overrides[name] {
		if err := t.override(o, &r.granted); err != nil {
			return nil, err
		}
	}
	t.normalize()
	t.Inherits = nil
	r.parents[name] = t
	return t, nil
}

// link adds the targets that a target's contexts come from, and checks that none needs itself. It visits each target once:
// walking every path takes time that grows with the cube of a chain's length, and exponentially where paths meet again.
func (r *resolver) link(name string) error {
	if r.linked[name] == linkDone {
		return nil
	}
	r.linked[name] = linkOpen
	t := r.targets[name]
	links := t.Links()
	for _, key := range slices.Sorted(maps.Keys(links)) {
		other := links[key]
		if other == name {
			return fmt.Errorf("target %s cannot link to itself", other)
		}
		if r.linked[other] == linkOpen {
			return fmt.Errorf("infinite loop from %s to %s", name, other)
		}
		if r.targets[other] == nil {
			linked, err := r.target(other)
			if err != nil {
				return err
			}
			linked.Outputs, linked.linked = Outputs{{Type: buildspec.OutputNone, Attrs: map[string]string{}}}, true
			r.targets[other] = linked
		}
		if err := r.link(other); err != nil {
			return err
		}
		if err := t.use(name, r.targets[other], other); err != nil {
			return err
		}
	}
	r.linked[name] = linkDone
	return nil
}

// use checks a link, and adds the entitlements of the other target.
func (t *Target) use(name string, other *Target, otherName string) error {
	t.Entitlements = unique(append(t.Entitlements, other.Entitlements...))
	if len(t.Platforms) < 2 || len(other.Platforms) < 2 {
		return nil
	}
	for _, p := range t.Platforms {
		if !slices.Contains(other.Platforms, p) {
			return fmt.Errorf("target %s can't be used by %s because its platforms %v are not a subset of %v",
				otherName, name, t.Platforms, other.Platforms)
		}
	}
	return nil
}
