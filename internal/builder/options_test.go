package builder

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/util/entitlements"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/network"
)

func TestFrontendOptions(t *testing.T) {
	t.Parallel()
	memory := int64(1 << 20)
	for name, c := range map[string]struct {
		spec buildspec.Spec
		want map[string]string
	}{
		"nothing": {want: map[string]string{}},
		"arguments and labels": {
			spec: buildspec.Spec{BuildArgs: map[string]string{"A": "1"}, Labels: map[string]string{"l": ""}},
			want: map[string]string{"build-arg:A": "1", "label:l": ""},
		},
		"stage": {spec: buildspec.Spec{Target: "t", Pull: true}, want: map[string]string{"target": "t", "image-resolve-mode": "pull"}},
		"cache": {spec: buildspec.Spec{NoCache: true, NoCacheFilter: []string{"a"}}, want: map[string]string{"no-cache": ""}},
		"cache of stages": {
			spec: buildspec.Spec{NoCacheFilter: []string{"a", "b"}}, want: map[string]string{"no-cache": "a,b"},
		},
		"limits": {
			spec: buildspec.Spec{ShmSize: 64, Ulimits: []string{"a=1:2", "b=3:3"}, CgroupParent: "/p", Limits: buildspec.Limits{Memory: &memory}},
			want: map[string]string{"shm-size": "64", "ulimit": "a=1:2,b=3:3", "cgroup-parent": "/p", "memory": "1048576"},
		},
		"attestations": {
			spec: buildspec.Spec{Attests: buildspec.Attests{"provenance": {"mode": "max"}, "sbom": {}}},
			want: map[string]string{"attest:provenance": "mode=max"},
		},
		"scanner": {
			spec: buildspec.Spec{Attests: buildspec.Attests{"sbom": {"generator": "scanner:1"}}}, want: map[string]string{"attest:sbom": "generator=scanner:1"},
		},
		"call":            {spec: buildspec.Spec{Call: buildspec.Call{Name: "lint"}}, want: map[string]string{"requestid": "frontend.lint", "frontend.caps": "moby.buildkit.frontend.subrequests+forward"}},
		"default network": {spec: buildspec.Spec{Network: "default"}, want: map[string]string{}},
		"no network":      {spec: buildspec.Spec{Network: "none"}, want: map[string]string{"force-network-mode": "none"}},
		"hosts": {
			spec: buildspec.Spec{Hosts: []buildspec.Host{{Name: "a", Addresses: []string{"1.2.3.4", "::1"}}, {Name: "h", Addresses: []string{"host-gateway"}}}},
			want: map[string]string{"add-hosts": "a=1.2.3.4,a=::1,h=" + network.Gateway().String()},
		},
		"gateway of the host's network": {
			spec: buildspec.Spec{Network: "host", Hosts: []buildspec.Host{{Name: "h", Addresses: []string{"host-gateway"}}}},
			want: map[string]string{"add-hosts": "h=127.0.0.1", "force-network-mode": "host"},
		},
		"platforms": {
			spec: buildspec.Spec{Platforms: []ocispec.Platform{
				{OS: "linux", Architecture: "x86_64"}, {OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"},
			}},
			want: map[string]string{"platform": "linux/amd64,linux/arm64"},
		},
		"contexts": {
			spec: buildspec.Spec{Contexts: map[string]string{"a": "dir", "b": "docker-image://x", "context": "dir"}},
			want: map[string]string{"context:a": "local:a", "context:b": "docker-image://x", "context:context": "local:_context"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &Options{Spec: c.spec, Context: EmptyContext{}}
			if diff := cmp.Diff(c.want, o.frontendOptions()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOptionLocals(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"f": ""})
	o := &Options{Context: EmptyContext{}, Spec: buildspec.Spec{Contexts: map[string]string{"a": dir, "dockerfile": dir, "b": "https://h/x"}}}
	locals := o.locals()
	if diff := cmp.Diff([]string{"_dockerfile", "a", "context"}, slices.Sorted(maps.Keys(locals))); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]string{"f"}, names(t, locals["a"])); diff != "" {
		t.Error(diff)
	}
}

func TestEntitlements(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec     buildspec.Spec
		host     bool
		insecure bool
		err      string
	}{
		"none":         {},
		"allowed":      {spec: buildspec.Spec{Allow: []string{"security.insecure"}}, insecure: true},
		"host network": {spec: buildspec.Spec{Network: "host"}, host: true},
		"unknown":      {spec: buildspec.Spec{Allow: []string{"root"}}, err: "unknown entitlement root"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &Options{Spec: c.spec}
			got, err := o.entitlements()
			if text(err) != c.err {
				t.Fatalf("%v, want %q", err, c.err)
			}
			if got.Allowed(entitlements.EntitlementNetworkHost) != c.host || got.Allowed(entitlements.EntitlementSecurityInsecure) != c.insecure {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestParseTags(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tags, want []string
		err        string
	}{
		"none":     {},
		"complete": {tags: []string{"a", "a:latest", "h:5000/b:1"}, want: []string{"docker.io/library/a:latest", "h:5000/b:1"}},
		"invalid":  {tags: []string{"a:b:c"}, err: `invalid tag "a:b:c": invalid reference format`},
		"digest": {
			tags: []string{"a@sha256:0123456789012345678901234567890123456789012345678901234567890123"},
			err:  `invalid tag "a@sha256:0123456789012345678901234567890123456789012345678901234567890123": a name with a digest cannot be given to an image`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseTags(c.tags)
			if text(err) != c.err || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v; want %q, %q", got, err, c.want, c.err)
			}
		})
	}
}
