// Package bake reads what `docker buildx bake` reads: HCL, JSON and compose files that describe targets to build. It gives
// the targets with everything resolved: variables, functions, matrices, inheritance, overrides, groups and links.
//
// The language itself, its variables, functions and blocks, is buildx's own evaluator (bake/hclparser); compose files
// are read by compose-go. What a target is and how targets are put together follows buildx's bake/bake.go, which cannot be
// imported without its registry policies and drivers (docs/bake.md).
package bake

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Options are those of reading files.
type Options struct {
	// Targets are the names of targets and groups, or patterns; none is "default".
	Targets []string
	// Overrides are those of --set: "pattern.key=value".
	Overrides []string
	// Vars are the values that --var gives to variables.
	Vars map[string]string
	// Defaults are the variables that are built in.
	Defaults map[string]string
	// FileRelative makes paths of contexts relative to the file that has them, not to the working directory.
	FileRelative bool
	// Env looks up the environment; nil for an empty one.
	Env func(string) (string, bool)
	// Environ lists it, for compose files.
	Environ []string
}

// Definition is a set of resolved targets. Its JSON is that of `docker buildx bake --print`.
type Definition struct {
	Groups  map[string]*Group  `json:"group,omitempty"`
	Targets map[string]*Target `json:"target"`
	// Unused describes the keys of files that have no meaning, one line each.
	Unused []string `json:"-"`
	// Granted are the paths and entitlements that overrides name and so allow.
	Granted Grants `json:"-"`
}

// Read parses the files and resolves the targets that are asked for, with those that they link to.
func Read(files []File, o Options) (*Definition, error) {
	var def *Definition
	err := bounded(func() error {
		c, _, err := parse(files, o)
		if err == nil {
			def, err = c.resolve(o)
		}
		return err
	})
	if err != nil {
		return nil, err // def may still be written to
	}
	return def, nil
}

// resolve gives the targets that are asked for everything that they inherit, override and link to.
func (c *Config) resolve(o Options) (_ *Definition, err error) {
	names, err := c.named(o.Targets)
	if err != nil {
		return nil, err
	}
	overrides, err := c.overrides(o.Overrides, o.Env)
	if err != nil {
		return nil, err
	}
	r := &resolver{config: c, overrides: overrides, parents: map[string]*Target{}, targets: map[string]*Target{}, linked: map[string]linkState{}}
	def := &Definition{Groups: map[string]*Group{}, Targets: r.targets, Unused: c.unused()}
	for _, name := range names {
		targets, groups := c.members(name)
		for _, t := range targets {
			if r.targets[t], err = r.target(t); err != nil {
				return nil, err
			}
		}
		for _, g := range groups {
			def.Groups[g] = c.group(g).clone()
		}
	}
	def.addDefault(names)
	for _, name := range slices.Sorted(maps.Keys(r.targets)) {
		if err := r.link(name); err != nil {
			return nil, err
		}
	}
	def.Granted = r.granted
	return def, nil
}

// addDefault adds everything that was asked for to the group default, as buildx prints it.
func (d *Definition) addDefault(names []string) {
	for _, name := range names {
		if _, ok := d.Groups["default"]; ok && name == "default" {
			continue
		}
		if d.Groups["default"] == nil {
			d.Groups["default"] = &Group{Name: "default"}
		}
		d.Groups["default"].Targets = append(d.Groups["default"].Targets, name)
	}
	if g := d.Groups["default"]; g != nil {
		g.Targets = unique(g.Targets)
		slices.Sort(g.Targets)
	}
}

// named are the targets and groups that match names and patterns.
func (c *Config) named(patterns []string) ([]string, error) {
	if len(patterns) == 0 {
		patterns = []string{"default"}
	}
	var all []string
	for _, p := range patterns {
		// The name of a compose service may have dots, that of a target not.
		p = sanitizeName(p)
		if !strings.ContainsAny(p, "*?[]") {
			all = append(all, p)
			continue
		}
		found := c.match(p)
		if len(found) == 0 {
			return nil, fmt.Errorf("could not find any target matching %q", p)
		}
		all = append(all, found...)
	}
	return unique(all), nil
}

func sanitizeName(name string) string { return strings.ReplaceAll(name, ".", "_") }

// unique keeps the first of equal values.
func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// uniqueFull is unique without empty values.
func uniqueFull(list []string) []string {
	return unique(slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" }))
}
