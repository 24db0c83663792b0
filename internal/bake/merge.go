package bake

import (
	"maps"
	"slices"

	"github.com/micabuild/mica/internal/buildspec"
)

// Merge lays t2 over t: values of t2 replace those of t, or are added to them where buildx adds. The evaluator calls it by
// its name where files have several blocks for one target.
func (t *Target) Merge(t2 *Target) {
	t.base.merge(t2)
	t.unused = slices.Concat(t.unused, t2.unused)
	if t2.Description != "" {
		t.Description = t2.Description
	}
	replace(&t.Context, t2.Context)
	replace(&t.Dockerfile, t2.Dockerfile)
	replace(&t.DockerfileInline, t2.DockerfileInline)
	replace(&t.Target, t2.Target)
	replace(&t.Call, t2.Call)
	replace(&t.Pull, t2.Pull)
	replace(&t.NoCache, t2.NoCache)
	replace(&t.Network, t2.Network)
	replace(&t.ShmSize, t2.ShmSize)
	replaceList(&t.Tags, t2.Tags)
	replaceList(&t.Platforms, t2.Platforms)
	replaceList((*[]Entry)(&t.CacheTo), t2.CacheTo)
	replaceList((*[]Entry)(&t.Outputs), t2.Outputs)
	addValues(&t.Args, t2.Args)
	addValues(&t.Labels, t2.Labels)
	addValues(&t.ExtraHosts, t2.ExtraHosts)
	if len(t2.Contexts) > 0 {
		t.Contexts = merged(t.Contexts, t2.Contexts)
	}
	t.Annotations = slices.Concat(t.Annotations, t2.Annotations)
	t.Attest = slices.Concat(t.Attest, t2.Attest).normal()
	t.Policy = slices.Concat(t.Policy, t2.Policy)
	t.Secrets = slices.Concat(t.Secrets, t2.Secrets).normal()
	t.SSH = slices.Concat(t.SSH, t2.SSH).normal()
	t.CacheFrom = dropEqual(slices.Concat(t.CacheFrom, t2.CacheFrom))
	t.NoCacheFilter = slices.Concat(t.NoCacheFilter, t2.NoCacheFilter)
	t.Ulimits = slices.Concat(t.Ulimits, t2.Ulimits)
	t.Entitlements = slices.Concat(t.Entitlements, t2.Entitlements)
	t.Inherits = slices.Concat(t.Inherits, t2.Inherits)
	if t2.Resources != nil {
		t.Resources = t.Resources.merge(t2.Resources)
	}
}

func replace[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

func replaceList[T any](to *[]T, from []T) {
	if from != nil {
		*to = slices.Clone(from)
	}
}

// addValues adds the variables that have a value: null changes nothing.
func addValues(to *map[string]*string, from map[string]*string) {
	for k, v := range from {
		if v == nil {
			continue
		}
		if *to == nil {
			*to = map[string]*string{}
		}
		(*to)[k] = v
	}
}

func merged(a, b map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// normalize drops duplicate and empty values.
func (t *Target) normalize() {
	t.Annotations = uniqueFull(t.Annotations)
	t.Attest = t.Attest.normal()
	t.Tags = uniqueFull(t.Tags)
	t.Secrets = t.Secrets.normal()
	t.SSH = t.SSH.normal()
	t.Platforms = uniqueFull(t.Platforms)
	t.CacheFrom = dropEqual(t.CacheFrom)
	t.CacheTo = dropEqual(t.CacheTo)
	t.Outputs = dropEqual(t.Outputs)
	t.NoCacheFilter = uniqueFull(t.NoCacheFilter)
	t.Ulimits = uniqueFull(t.Ulimits)
	if t.Network != nil && *t.Network == "host" {
		t.Entitlements = append(t.Entitlements, buildspec.NetworkHost)
	}
	t.Entitlements = uniqueFull(t.Entitlements)
	maps.DeleteFunc(t.Contexts, func(_, v string) bool { return v == "" })
	if len(t.Contexts) == 0 {
		t.Contexts = nil
	}
}

// dropGroups keeps the first group of each name.
func dropGroups(groups []*Group) []*Group {
	var out []*Group
	for _, g := range groups {
		if slices.ContainsFunc(out, func(o *Group) bool { return o.Name == g.Name }) {
			continue
		}
		g = g.clone()
		g.Targets = append([]string{}, unique(g.Targets)...) // "[]" in JSON, not "null"
		out = append(out, g)
	}
	return out
}

// mergeTargets lays targets of one name over each other.
func mergeTargets(targets []*Target) []*Target {
	var out []*Target
	for _, t := range targets {
		if i := slices.IndexFunc(out, func(o *Target) bool { return o.Name == t.Name }); i >= 0 {
			out[i].Merge(t)
			continue
		}
		out = append(out, t)
	}
	return out
}
