package bake

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/micabuild/mica/internal/buildspec"
)

// override is a --set of one key of a target.
type override struct {
	key, name string // "args" and "VERSION"
	values    []string
	add       bool // "+="
}

func (o override) value() string {
	if len(o.values) == 0 {
		return ""
	}
	return o.values[len(o.values)-1]
}

// namedKeys are the keys of --set that have a name of their own after them: "target.args.NAME".
var namedKeys = []string{"args", "contexts", "labels", "extra-hosts", "resources", "secret"}

// overrides reads --set, "pattern.key[.name][+]=value", for every target whose name matches the pattern.
func (c *Config) overrides(list []string, env func(string) (string, bool)) (map[string][]override, error) {
	all := map[string][]override{}
	for _, text := range list {
		left, value, hasValue := strings.Cut(text, "=")
		key, add := strings.CutSuffix(left, "+")
		parts := strings.SplitN(key, ".", 3)
		if len(parts) < 2 {
			return nil, fmt.Errorf("invalid override key %s, expected target.name", key)
		}
		if !hasValue && parts[1] != "args" {
			return nil, fmt.Errorf("invalid override %s, expected target.name=value", text)
		}
		o := override{key: parts[1], add: add}
		if slices.Contains(namedKeys, o.key) {
			if len(parts) != 3 || parts[2] == "" {
				return nil, fmt.Errorf("invalid key %s, %s requires name", left, o.key)
			}
			o.name = parts[2]
		} else if len(parts) == 3 {
			return nil, fmt.Errorf("unknown key: %s.%s", o.key, parts[2])
		}
		if !hasValue {
			if value, hasValue = lookup(env, o.name); !hasValue {
				continue
			}
		}
		o.values = []string{value}
		names, err := c.expand(parts[0])
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			all[name] = addOverride(all[name], o)
		}
	}
	return all, nil
}

func lookup(env func(string) (string, bool), name string) (string, bool) {
	if env == nil {
		return "", false
	}
	return env(name)
}

// addOverride adds an override, or another value to one of the same key.
func addOverride(list []override, o override) []override {
	i := slices.IndexFunc(list, func(other override) bool { return other.key == o.key && other.name == o.name })
	if i < 0 {
		return append(list, o)
	}
	list[i].values = append(list[i].values, o.values...)
	list[i].add = o.add
	return list
}

// expand lists the targets that match a pattern.
func (c *Config) expand(pattern string) ([]string, error) {
	if c.target(pattern) != nil {
		return []string{pattern}, nil
	}
	var names []string
	for _, t := range c.Targets {
		ok, err := path.Match(pattern, t.Name)
		if err != nil {
			return nil, fmt.Errorf("could not match targets with '%s': %w", pattern, err)
		}
		if ok {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("could not find any target matching '%s'", pattern)
	}
	return names, nil
}

// override applies an override, and grants the paths and entitlements that it names.
func (t *Target) override(o override, granted *Grants) error {
	if t.overrideText(o) {
		return nil
	}
	if known, err := t.overrideList(o, granted); known || err != nil {
		return err
	}
	switch o.key {
	case "no-cache":
		return setBool(&t.NoCache, o)
	case "pull":
		return setBool(&t.Pull, o)
	case "push", "load":
		var on *bool
		if err := setBool(&on, o); err != nil {
			return err
		}
		if o.key == "push" {
			t.Outputs = t.Outputs.setPush(*on)
		} else {
			t.Outputs = t.Outputs.setLoad(*on)
		}
		return nil
	case "resources":
		t.Resources = t.Resources.merge(nil)
		return t.Resources.set(o.name, o.value())
	case "secret":
		return t.overrideSecret(o.name, o.value(), granted)
	}
	return fmt.Errorf("unknown key: %s", o.key)
}

func setBool(to **bool, o override) error {
	b, err := strconv.ParseBool(o.value())
	if err != nil {
		return fmt.Errorf("invalid value %s for boolean key %s", o.value(), o.key)
	}
	*to = &b
	return nil
}

// overrideText applies an override of a key that has one text, or one under each name.
func (t *Target) overrideText(o override) (known bool) {
	for key, to := range map[string]**string{
		"context": &t.Context, "dockerfile": &t.Dockerfile, "target": &t.Target, "call": &t.Call, "shm-size": &t.ShmSize, "network": &t.Network,
	} {
		if key == o.key {
			*to = ref(o.value())
			return true
		}
	}
	for key, to := range map[string]*map[string]*string{"args": &t.Args, "labels": &t.Labels, "extra-hosts": &t.ExtraHosts} {
		if key == o.key {
			addValues(to, map[string]*string{o.name: ref(o.value())})
			return true
		}
	}
	if o.key == "contexts" {
		t.Contexts = merged(t.Contexts, map[string]string{o.name: o.value()})
		return true
	}
	return false
}

// overrideList applies an override of a key that has a list.
func (t *Target) overrideList(o override, granted *Grants) (known bool, err error) {
	switch o.key {
	case "tags":
		setList(&t.Tags, o.values, o.add)
	case "platform":
		setList(&t.Platforms, o.values, o.add)
	case "no-cache-filter":
		setList(&t.NoCacheFilter, o.values, o.add)
	case "ulimits":
		setList(&t.Ulimits, o.values, o.add)
	case "annotations":
		setList(&t.Annotations, o.values, true)
	case "entitlements":
		setList(&t.Entitlements, o.values, true)
		granted.add(o.values...)
	case "output":
		err = setParsed((*[]Entry)(&t.Outputs), o, parseOutput)
		granted.write(t.Outputs.paths("dest")...)
	case "cache-from":
		err = setParsed((*[]Entry)(&t.CacheFrom), o, buildspec.ParseCache)
		granted.read(t.CacheFrom.paths("src")...)
	case "cache-to":
		err = setParsed((*[]Entry)(&t.CacheTo), o, buildspec.ParseCache)
		granted.write(t.CacheTo.paths("dest")...)
	case "policy":
		err = setParsed((*[]Entry)(&t.Policy), o, parsePolicy)
	case "attest":
		o.add = true
		err = setParsed((*[]Entry)(&t.Attest), o, parseAttest)
	case "secrets":
		if err = setParsed((*[]Secret)(&t.Secrets), o, parseSecret); err == nil {
			granted.read(t.Secrets.paths(func(Secret) bool { return true })...)
		}
	case "ssh":
		if err = setParsed((*[]SSH)(&t.SSH), o, parseSSH); err == nil {
			granted.read(t.SSH.paths()...)
		}
	default:
		return false, nil
	}
	if err != nil {
		err = fmt.Errorf("invalid value for %s: %w", o.key, err)
	}
	return true, err
}

func setList(to *[]string, values []string, add bool) {
	if !add {
		*to = nil
	}
	*to = slices.Concat(*to, values)
}

func setParsed[T any](to *[]T, o override, parse func(string) ([]T, error)) error {
	list, err := parseAll(o.values, parse)
	if err != nil {
		return err
	}
	if o.add {
		list = slices.Concat(*to, list)
	}
	*to = list
	return nil
}

// overrideSecret changes the source of a secret that the target has.
func (t *Target) overrideSecret(id, value string, granted *Grants) error {
	i := slices.IndexFunc(t.Secrets, func(s Secret) bool { return s.ID == id })
	if i < 0 {
		return fmt.Errorf("secret %q must be declared before it can be overridden", id)
	}
	next, err := parseSecret(value)
	if err != nil {
		return err
	}
	if len(next) == 0 {
		return errors.New("the secret has no source")
	}
	if next[0].ID != "" && next[0].ID != id {
		return fmt.Errorf("secret override id %q does not match declared secret %q", next[0].ID, id)
	}
	t.Secrets[i].Src, t.Secrets[i].Env = next[0].Src, next[0].Env
	granted.read(t.Secrets.paths(func(s Secret) bool { return s.ID == id })...)
	return nil
}
