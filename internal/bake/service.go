package bake

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/cli/opts"
	"github.com/docker/go-units"

	"github.com/micabuild/mica/internal/bake/compose"
	"github.com/micabuild/mica/internal/buildspec"
)

// setServices makes a target of each service that is built, and the group default of them all.
func (c *Config) setServices(services []compose.Service) error {
	group := &Group{Name: "default"}
	for _, s := range services {
		if s.Build == nil {
			continue
		}
		t, err := serviceTarget(&s)
		if err != nil {
			return fmt.Errorf("service %s: %w", s.Name, err)
		}
		c.Targets = append(c.Targets, t)
		group.Targets = append(group.Targets, t.Name)
	}
	if len(services) > 0 {
		c.Groups = []*Group{group}
	}
	return nil
}

// serviceTarget is the target of a service.
func serviceTarget(s *compose.Service) (*Target, error) {
	b := s.Build
	t := &Target{
		Name: sanitizeName(s.Name), Context: set(b.Context), Dockerfile: set(b.Dockerfile), DockerfileInline: set(b.DockerfileInline),
		Contexts: serviceContexts(b.AdditionalContexts), Target: set(b.Target), Tags: b.Tags, Network: set(b.Network),
		Platforms: b.Platforms, Labels: map[string]*string{}, ExtraHosts: map[string]*string{}, Secrets: s.Secrets,
	}
	if err := checkName(t.Name); err != nil {
		return nil, fmt.Errorf("invalid service name %q: %w", t.Name, err)
	}
	for k, v := range s.Args {
		addValues(&t.Args, map[string]*string{k: &v})
	}
	for k, v := range b.Labels {
		t.Labels[k] = &v
	}
	for k, v := range b.ExtraHosts {
		t.ExtraHosts[k] = ref(strings.Join(v, ","))
	}
	if b.ShmSize > 0 {
		size := opts.MemBytes(b.ShmSize)
		t.ShmSize = ref(size.String())
	}
	if b.NoCache {
		t.NoCache = &b.NoCache
	}
	if b.Pull {
		t.Pull = &b.Pull
	}
	if err := t.addServiceLists(b); err != nil {
		return nil, err
	}
	if err := t.addExtension(&s.Extension); err != nil {
		return nil, fmt.Errorf("x-bake: %w", err)
	}
	if len(t.Tags) == 0 && s.Image != "" {
		t.Tags = []string{s.Image}
	}
	return t, nil
}

// set is nil for an empty text.
func set(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// addServiceLists adds the keys that have lists.
func (t *Target) addServiceLists(b *types.BuildConfig) (err error) {
	for _, name := range slices.Sorted(maps.Keys(b.Ulimits)) {
		u := b.Ulimits[name]
		soft, hard := u.Soft, u.Hard
		if u.Single != 0 { // "nproc: 65535" is both
			soft, hard = u.Single, u.Single
		}
		limit, err := units.ParseUlimit(fmt.Sprintf("%s=%d:%d", name, soft, hard))
		if err != nil {
			return err
		}
		t.Ulimits = append(t.Ulimits, limit.String())
	}
	for _, key := range b.SSH {
		t.SSH = append(t.SSH, SSH{ID: key.ID, Paths: uniqueFull([]string{key.Path})})
	}
	slices.SortFunc(t.SSH, compareSSH)
	if t.CacheFrom, err = parseAll(b.CacheFrom, buildspec.ParseCache); err != nil {
		return err
	}
	if t.CacheTo, err = parseAll(b.CacheTo, buildspec.ParseCache); err != nil {
		return err
	}
	var attests []string
	for _, a := range []struct{ kind, value string }{{"sbom", b.SBOM}, {"provenance", b.Provenance}} {
		if a.value != "" {
			attests = append(attests, buildspec.CanonicalAttest(a.kind, a.value))
		}
	}
	t.Attest, err = parseAll(attests, parseAttest)
	return err
}

func compareSSH(a, b SSH) int {
	if c := strings.Compare(a.ID, b.ID); c != 0 {
		return c
	}
	return slices.Compare(a.Paths, b.Paths)
}

// serviceContexts turns links to services into links to targets.
func serviceContexts(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	out := map[string]string{}
	for name, v := range m {
		for _, prefix := range []string{"service:", "target:"} {
			if s, ok := strings.CutPrefix(v, prefix); ok {
				v = "target:" + sanitizeName(s)
				break
			}
		}
		out[name] = v
	}
	return out
}

// addExtension adds x-bake.
func (t *Target) addExtension(x *compose.Extension) error {
	replace(&t.Pull, x.Pull)
	replace(&t.NoCache, x.NoCache)
	t.Tags = unique(slices.Concat(t.Tags, x.Tags))
	t.Platforms = unique(slices.Concat(t.Platforms, x.Platforms))
	t.NoCacheFilter = unique(slices.Concat(t.NoCacheFilter, x.NoCacheFilter))
	if len(x.Contexts) > 0 {
		t.Contexts = merged(serviceContexts(x.Contexts), t.Contexts)
	}
	for _, list := range []struct {
		to    *[]Entry
		from  []string
		parse func(string) ([]Entry, error)
	}{
		{(*[]Entry)(&t.CacheFrom), x.CacheFrom, buildspec.ParseCache},
		{(*[]Entry)(&t.CacheTo), x.CacheTo, buildspec.ParseCache},
		{(*[]Entry)(&t.Outputs), x.Outputs, parseOutput},
	} {
		if len(list.from) == 0 {
			continue
		}
		got, err := parseAll(list.from, list.parse)
		if err != nil {
			return err
		}
		*list.to = dropEqual(append(*list.to, got...))
	}
	secrets, err := parseAll(x.Secrets, parseSecret)
	if err != nil {
		return err
	}
	t.Secrets = append(t.Secrets, secrets...).normal()
	ssh, err := parseAll(x.SSH, parseSSH)
	if err != nil {
		return err
	}
	t.SSH = append(t.SSH, ssh...).normal()
	slices.SortFunc(t.SSH, compareSSH)
	return nil
}
