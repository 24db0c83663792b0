package buildcmd

import (
	"fmt"
	"maps"
	"slices"

	"github.com/micabuild/mica/internal/bake"
	"github.com/micabuild/mica/internal/buildspec"
)

// bakeTarget is a target of a bake file as a build.
type bakeTarget struct {
	name string
	spec *buildspec.Spec
	// links are the targets that named contexts come from.
	links map[string]string
	// hidden is set if nothing is made of the result: it is for other targets, or for the cache only.
	hidden bool
}

// targets maps a definition to builds. All mistakes are found before anything is built.
func (f *bakeFlags) targets(def *bake.Definition) (map[string]*bakeTarget, error) {
	form, err := parseCall(f.call, f.check)
	if err != nil {
		return nil, err
	}
	targets, stdout := map[string]*bakeTarget{}, ""
	for _, name := range slices.Sorted(maps.Keys(def.Targets)) {
		t := def.Targets[name]
		spec, err := t.Spec(form)
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		spec.HostCerts, spec.ProxyNetwork = f.hostCerts, f.proxyNetwork
		if spec.On, err = buildspec.ParseOn(f.on, spec.CacheTo); err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		if slices.ContainsFunc(spec.Outputs, func(o buildspec.Output) bool { return o.Stdout() }) {
			if stdout != "" {
				return nil, fmt.Errorf("targets %s and %s cannot both be written to stdout: give one of them a dest", stdout, name)
			}
			stdout = name
		}
		links, err := buildspec.NormalizeContexts(t.Links())
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		targets[name] = &bakeTarget{name: name, spec: spec, links: links, hidden: t.Hidden()}
	}
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		if err := targets[name].checkLinks(targets); err != nil {
			return nil, err
		}
	}
	return targets, nil
}

// calls reports whether the target is evaluated by a call of the front end, and not built.
func (b *bakeTarget) calls() bool { return b.spec.Call.Name != "" }

// checkLinks removes the links of targets that are not built: a call needs no filesystem.
func (b *bakeTarget) checkLinks(targets map[string]*bakeTarget) error {
	for _, name := range slices.Sorted(maps.Keys(b.links)) {
		switch other := b.links[name]; {
		case b.calls():
			b.spec.Contexts[name] = "docker-image://scratch"
			delete(b.links, name)
		case targets[other].calls():
			return fmt.Errorf("target %s needs the result of %s, which is not built: it has call=%s", b.name, other, targets[other].spec.Call.UserName())
		}
	}
	return nil
}
