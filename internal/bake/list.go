package bake

import (
	"cmp"
	"slices"
	"strings"
)

// Listed is a target or group as --list shows it.
type Listed struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Group       bool   `json:"group,omitempty"`
}

// List returns the targets and groups by name, without those whose names begin with "_": they are only inherited.
func (c *Config) List() []Listed {
	var list []Listed
	for _, t := range c.Targets {
		list = append(list, Listed{Name: t.Name, Description: t.Description})
	}
	for _, g := range c.Groups {
		description := g.Description
		if len(g.Targets) > 0 {
			names := strings.Join(slices.Sorted(slices.Values(g.Targets)), ", ")
			if description != "" {
				description += " (" + names + ")"
			} else {
				description = names
			}
		}
		list = append(list, Listed{Name: g.Name, Description: description, Group: true})
	}
	list = slices.DeleteFunc(list, func(l Listed) bool { return strings.HasPrefix(l.Name, "_") })
	slices.SortStableFunc(list, func(a, b Listed) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
