package bake

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/cli/opts"
	"github.com/docker/go-units"

	"github.com/micabuild/mica/internal/buildspec"
)

// serviceTarget is the target of a service's key build (docs.docker.com/reference/compose-file/build).
func serviceTarget(project *types.Project, s *types.ServiceConfig) (*Target, error) {
	b := s.Build
	t := &Target{
		Name: sanitizeName(s.Name), Context: set(b.Context), Dockerfile: set(b.Dockerfile), DockerfileInline: set(b.DockerfileInline),
		Contexts: composeContexts(b.AdditionalContexts), Target: set(b.Target), Tags: b.Tags, Network: set(b.Network),
		Platforms: b.Platforms, Labels: map[string]*string{}, ExtraHosts: map[string]*string{}, Args: serviceArgs(project, s),
	}
	if err := checkName(t.Name); err != nil {
		return nil, fmt.Errorf("invalid service name %q: %w", t.Name, err)
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
	if err := t.addComposeLists(project, b); err != nil {
		return nil, err
	}
	if err := t.addExtension(b.Extensions["x-bake"]); err != nil {
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

// serviceArgs are the build arguments. One without a value has that of the service's environment, or of compose's.
func serviceArgs(project *types.Project, s *types.ServiceConfig) map[string]*string {
	args := map[string]*string{}
	addValues(&args, s.Build.Args.Resolve(func(name string) (string, bool) {
		if v, ok := s.Environment[name]; ok && v != nil {
			return *v, true
		}
		v, ok := project.Environment[name]
		return v, ok
	}))
	if len(args) == 0 {
		return nil
	}
	return args
}

// addComposeLists adds the keys that have lists.
func (t *Target) addComposeLists(project *types.Project, b *types.BuildConfig) (err error) {
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
	for _, s := range b.Secrets {
		from := project.Secrets[s.Source]
		if from.External {
			return fmt.Errorf("unsupported external secret %s", from.Name)
		}
		t.Secrets = append(t.Secrets, Secret{ID: s.Source, Src: from.File, Env: from.Environment})
	}
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

// composeContexts turns links to services into links to targets.
func composeContexts(m map[string]string) map[string]string {
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
