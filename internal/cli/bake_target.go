package cli

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/docker/cli/opts"

	"github.com/micabuild/mica/internal/bake"
	"github.com/micabuild/mica/internal/builder"
)

// bakeTarget is a target as `mica build` would be told of it.
type bakeTarget struct {
	name  string
	flags *buildFlags
	// context is the PATH of the build, inline its Dockerfile where the bake file holds that.
	context string
	inline  []byte
	// links are the targets that named contexts come from.
	links map[string]string
	// hidden is set where nothing is made of the result: for other targets, or for the cache only.
	hidden bool
}

// target maps a target of a bake file to the flags of a build. refuse names what buildFlags has no field for.
func (f *bakeFlags) target(name string, t *bake.Target) (*bakeTarget, error) {
	b := &bakeTarget{name: name, flags: f.common(), links: t.Links()}
	for _, set := range []func(*bake.Target) error{b.setSource, b.setContexts, b.setLimits, b.setOutputs} {
		if err := set(t); err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
	}
	to := b.flags
	to.tags, to.platforms, to.noCacheFilter = t.Tags, t.Platforms, t.NoCacheFilter
	to.buildArgs, to.labels, to.addHosts = pairs(t.Args), pairs(t.Labels), pairs(t.ExtraHosts)
	to.secrets, to.ssh = texts(t.Secrets), texts(t.SSH)
	to.cacheFrom, to.cacheTo = texts(t.CacheFrom), texts(t.CacheTo)
	// What a target asks for was granted before.
	to.attests, to.allow = texts(t.Attest), append(slices.Clone(t.Entitlements), bake.LocalDelete)
	setText(&to.target, t.Target)
	setText(&to.network, t.Network)
	if t.NoCache != nil {
		to.noCache = *t.NoCache
	}
	if t.Pull != nil {
		to.pull = *t.Pull
	}
	if t.Call != nil {
		to.call = f.callOf(*t.Call)
	}
	return b, nil
}

// common are the flags that all targets have.
func (f *bakeFlags) common() *buildFlags {
	return &buildFlags{
		network: "default", call: "build", progress: f.progress, runtime: f.runtime, hostCerts: f.hostCerts,
		ulimits: opts.NewUlimitOpt(nil),
	}
}

// callOf is what a target is asked, in the form that the command line asks for.
func (f *bakeFlags) callOf(name string) string {
	_, form, ok := strings.Cut(f.call, ",")
	if !ok || f.check || name == "" {
		return name
	}
	return name + "," + form
}

// setSource says where the files come from.
func (b *bakeTarget) setSource(t *bake.Target) error {
	if *t.Context == "-" {
		return errors.New("context from stdin not allowed in bake")
	}
	if *t.Dockerfile == "-" {
		return errors.New("dockerfile from stdin not allowed in bake")
	}
	b.context = *t.Context
	switch {
	case t.DockerfileInline != nil:
		b.inline = []byte(*t.DockerfileInline)
	case isWebURL(*t.Dockerfile):
		b.flags.file = *t.Dockerfile
	case !bake.IsPath(*t.Dockerfile):
		return fmt.Errorf("dockerfile %s: only http and https URLs are read", *t.Dockerfile)
	case bake.IsPath(b.context):
		b.flags.file = t.DockerfilePath()
	default:
		b.flags.file = *t.Dockerfile
	}
	return nil
}

// setContexts says what the named contexts are, but for those that other targets make.
func (b *bakeTarget) setContexts(t *bake.Target) error {
	for _, name := range slices.Sorted(maps.Keys(t.Contexts)) {
		value := t.Contexts[name]
		if _, ok := b.links[name]; ok {
			continue
		}
		if bake.IsPath(value) {
			value = path.Clean(strings.TrimPrefix(value, "cwd://"))
		} else if !builder.IsRemote(value) {
			return fmt.Errorf("context %s: %s is not supported", name, value)
		}
		b.flags.contexts = append(b.flags.contexts, name+"="+value)
	}
	return nil
}

// setLimits says what the steps may use of the host, and checks what they are for.
func (b *bakeTarget) setLimits(t *bake.Target) error {
	if t.ShmSize != nil {
		if err := b.flags.shmSize.Set(*t.ShmSize); err != nil {
			return fmt.Errorf("invalid value %s for shm-size: %w", *t.ShmSize, err)
		}
	}
	for _, u := range t.Ulimits {
		if err := b.flags.ulimits.Set(u); err != nil {
			return fmt.Errorf("invalid ulimit %s: %w", u, err)
		}
	}
	if _, err := builder.ParsePlatforms(t.Platforms); err != nil {
		return err
	}
	b.flags.resources = t.Resources.Entries()
	return nil
}

// setOutputs says what is made of the result. Annotations are for those outputs that are images.
func (b *bakeTarget) setOutputs(t *bake.Target) error {
	images := len(t.Outputs) == 0
	for _, o := range t.Outputs {
		switch o.Type {
		case "cacheonly":
			continue
		case "image", "registry", "oci", "docker":
			images = true
		}
		b.flags.outputs = append(b.flags.outputs, o.String())
	}
	b.hidden = t.Linked() || len(t.Outputs) > 0 && len(b.flags.outputs) == 0
	if b.hidden {
		return nil
	}
	if images {
		b.flags.annotations = t.Annotations
	}
	return nil
}

// refuse names what a build has no flag for.
func refuse(t *bake.Target) error {
	if len(t.Policy) > 0 {
		return errors.New("policy is not supported")
	}
	return nil
}

func setText(to, from *string) {
	if from != nil {
		*to = *from
	}
}

// pairs are "key=value" of what has a value.
func pairs(m map[string]*string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] != nil {
			out = append(out, k+"="+*m[k])
		}
	}
	return out
}

func texts[T fmt.Stringer](list []T) []string {
	var out []string
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}
