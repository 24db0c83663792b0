package bake

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/buildspec"
)

// Hidden reports whether nothing is made of the target's result: it is there for other targets, or for the cache only.
func (t *Target) Hidden() bool {
	cacheOnly := len(t.Outputs) > 0 && !slices.ContainsFunc(t.Outputs, func(e Entry) bool { return e.Type != buildspec.OutputNone })
	return t.linked || cacheOnly
}

// Spec is the build that a resolved target describes. It leaves out contexts that other targets make: see Links. form says in
// which form the front end's responses are printed.
func (t *Target) Spec(form buildspec.Call) (*buildspec.Spec, error) {
	if len(t.Policy) > 0 {
		return nil, errors.New("policy is not supported")
	}
	s := &buildspec.Spec{
		BuildArgs: values(t.Args), Labels: values(t.Labels), Target: deref(t.Target), NoCacheFilter: buildspec.ParseNoCacheFilter(t.NoCacheFilter),
		NoCache: t.NoCache != nil && *t.NoCache, Pull: t.Pull != nil && *t.Pull,
		// What a target asks for was granted before.
		Allow: t.Entitlements, AllowDelete: true,
	}
	for _, set := range []func(*buildspec.Spec) error{t.setSource, t.setContexts, t.setLimits, t.setHost, t.setCaches, t.setOutputs} {
		if err := set(s); err != nil {
			return nil, err
		}
	}
	return s, t.setCall(s, form)
}

// Check finds mistakes in a resolved target that is printed, not built: it may use what mica does not support.
func (t *Target) Check() error {
	s := &buildspec.Spec{}
	for _, set := range []func(*buildspec.Spec) error{t.setSource, t.setContexts, t.setLimits} {
		if err := set(s); err != nil {
			return err
		}
	}
	return nil
}

// setSource sets where the files come from.
func (t *Target) setSource(s *buildspec.Spec) error {
	if *t.Context == "-" {
		return errors.New("context from stdin not allowed in bake")
	}
	if *t.Dockerfile == "-" {
		return errors.New("dockerfile from stdin not allowed in bake")
	}
	s.Path, s.Dockerfile = *t.Context, *t.Dockerfile
	switch {
	case t.DockerfileInline != nil:
		s.Inline, s.Dockerfile = []byte(*t.DockerfileInline), ""
	case strings.HasPrefix(s.Dockerfile, "http://") || strings.HasPrefix(s.Dockerfile, "https://"):
	case !IsPath(s.Dockerfile):
		return fmt.Errorf("dockerfile %s: only http and https URLs are read", s.Dockerfile)
	case IsPath(s.Path):
		s.Dockerfile = t.DockerfilePath()
	}
	return nil
}

// setContexts sets the named contexts that no other target makes.
func (t *Target) setContexts(s *buildspec.Spec) (err error) {
	contexts, links := map[string]string{}, t.Links()
	for name, value := range t.Contexts {
		if _, ok := links[name]; ok {
			continue
		}
		if IsPath(value) {
			value = path.Clean(strings.TrimPrefix(value, "cwd://"))
		} else if !buildspec.IsRemote(value) {
			return fmt.Errorf("context %s: %s is not supported", name, value)
		}
		contexts[name] = value
	}
	s.Contexts, err = buildspec.NormalizeContexts(contexts)
	return err
}

// setLimits sets what the steps may use of the host, and the platforms.
func (t *Target) setLimits(s *buildspec.Spec) (err error) {
	if t.ShmSize != nil {
		if s.ShmSize, err = buildspec.ParseShmSize(*t.ShmSize); err != nil {
			return err
		}
	}
	if s.Ulimits, err = buildspec.ParseUlimits(t.Ulimits); err != nil {
		return err
	}
	if s.Platforms, err = buildspec.ParsePlatforms(t.Platforms); err != nil {
		return err
	}
	if t.Resources == nil {
		return nil
	}
	for name, value := range t.Resources.limits {
		if err := s.Limits.Set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// setHost sets what the steps see of the host: its network, names, secrets and agents.
func (t *Target) setHost(s *buildspec.Spec) (err error) {
	if s.Network, err = buildspec.ParseNetwork(deref(t.Network)); err != nil {
		return err
	}
	if s.Hosts, err = buildspec.ParseHosts(pairs(t.ExtraHosts)); err != nil {
		return err
	}
	s.Secrets = t.Secrets
	for _, key := range t.SSH {
		agent, err := buildspec.NewSSH(key.ID, key.Paths)
		if err != nil {
			return fmt.Errorf("invalid ssh %q: %w", key.ID, err)
		}
		s.SSH = append(s.SSH, agent)
	}
	return nil
}

func (t *Target) setCaches(s *buildspec.Spec) (err error) {
	if s.CacheFrom, err = buildspec.NewCaches(t.CacheFrom, false); err != nil {
		return err
	}
	if s.CacheTo, err = buildspec.NewCaches(t.CacheTo, true); err != nil {
		return err
	}
	s.Attests, err = buildspec.NewAttests(t.Attest)
	return err
}

// setOutputs sets the outputs. A hidden target makes an image without a name. Annotations are for outputs that are images.
func (t *Target) setOutputs(s *buildspec.Spec) error {
	if t.Hidden() {
		s.Outputs = []buildspec.Output{{Type: buildspec.OutputImage, Unnamed: true}}
		return nil
	}
	s.Tags = t.Tags
	for _, e := range t.Outputs {
		if e.Type == buildspec.OutputNone {
			continue
		}
		o, err := buildspec.NewOutput(e)
		if err != nil {
			return err
		}
		s.Outputs = append(s.Outputs, *o)
	}
	if len(s.Outputs) == 0 {
		s.Outputs = []buildspec.Output{{Type: buildspec.OutputImage, Lazy: true}}
	}
	annotations, err := buildspec.ParseAnnotations(t.Annotations)
	if err == nil {
		s.Annotate(annotations)
	}
	return err
}

// setCall sets the question that the front end answers instead of building.
func (t *Target) setCall(s *buildspec.Spec, form buildspec.Call) (err error) {
	if t.Call == nil {
		return nil
	}
	if s.Call, err = buildspec.ParseCall(*t.Call); err != nil {
		return err
	}
	if s.Call.Name != "" {
		s.Call.JSON, s.Call.IgnoreStatus = s.Call.JSON || form.JSON, s.Call.IgnoreStatus || form.IgnoreStatus
	}
	return nil
}

// values are the variables that have a value.
func values(m map[string]*string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if v != nil {
			out[k] = *v
		}
	}
	return out
}

// pairs are "key=value" of the variables that have a value.
func pairs(m map[string]*string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] != nil {
			out = append(out, k+"="+*m[k])
		}
	}
	return out
}

// deref is the text behind a pointer, "" for nil.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
