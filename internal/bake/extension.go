package bake

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/micabuild/mica/internal/buildspec"
)

// extension is x-bake: the options for which compose files have no key
// (https://docs.docker.com/build/bake/compose-file/#extension-field-with-x-bake).
type extension struct {
	Tags          stringList        `yaml:"tags,omitempty"`
	CacheFrom     stringList        `yaml:"cache-from,omitempty"`
	CacheTo       stringList        `yaml:"cache-to,omitempty"`
	Secrets       stringList        `yaml:"secret,omitempty"`
	SSH           stringList        `yaml:"ssh,omitempty"`
	Platforms     stringList        `yaml:"platforms,omitempty"`
	Outputs       stringList        `yaml:"output,omitempty"`
	Pull          *bool             `yaml:"pull,omitempty"`
	NoCache       *bool             `yaml:"no-cache,omitempty"`
	NoCacheFilter stringList        `yaml:"no-cache-filter,omitempty"`
	Contexts      map[string]string `yaml:"contexts,omitempty"`
}

// stringList is a list, or its elements in one text.
type stringList []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *stringList) UnmarshalYAML(n *yaml.Node) error {
	var several []string
	if err := n.Decode(&several); err == nil {
		*l = several
		return nil
	}
	var one string
	if err := n.Decode(&one); err != nil {
		return err
	}
	*l = strings.Fields(one)
	return nil
}

// addExtension adds x-bake to a service's target.
func (t *Target) addExtension(value any) error {
	if value == nil {
		return nil
	}
	data, err := yaml.Marshal(value)
	if err != nil {
		return err
	}
	var x extension
	if err := yaml.Unmarshal(data, &x); err != nil {
		return composeError(err)
	}
	replace(&t.Pull, x.Pull)
	replace(&t.NoCache, x.NoCache)
	t.Tags = unique(slices.Concat(t.Tags, x.Tags))
	t.Platforms = unique(slices.Concat(t.Platforms, x.Platforms))
	t.NoCacheFilter = unique(slices.Concat(t.NoCacheFilter, x.NoCacheFilter))
	if len(x.Contexts) > 0 {
		t.Contexts = merged(composeContexts(x.Contexts), t.Contexts)
	}
	return t.addExtensionLists(&x)
}

func (t *Target) addExtensionLists(x *extension) error {
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
