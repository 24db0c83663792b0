package bake

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Config is the content of files, before targets are resolved.
type Config struct {
	Groups  []*Group  `json:"group" hcl:"group,block" cty:"group"`
	Targets []*Target `json:"target" hcl:"target,block" cty:"target"`
}

// Group is a name for several targets and groups.
type Group struct {
	Name        string   `json:"-" hcl:"name,label" cty:"name"`
	Description string   `json:"description,omitempty" hcl:"description,optional" cty:"description"`
	Targets     []string `json:"targets" hcl:"targets" cty:"targets"`

	// unused are the keys of a block that no group can have.
	unused []string
}

// SetBlockSource receives the block of a group (hclparser.WithBlockSource).
func (g *Group) SetBlockSource(block *hcl.Block) {
	g.unused = unusedKeys(block, reflect.TypeFor[Group]())
}

func (g *Group) clone() *Group {
	return &Group{Name: g.Name, Description: g.Description, Targets: slices.Clone(g.Targets), unused: g.unused}
}

// Target is one build (docs.docker.com/build/bake/reference). Its JSON is that of `docker buildx bake --print`.
type Target struct {
	Name        string `json:"-" hcl:"name,label" cty:"name"`
	Description string `json:"description,omitempty" hcl:"description,optional" cty:"description"`

	// Inherits are the targets that this one begins with. It is empty once the target is resolved.
	Inherits []string `json:"inherits,omitempty" hcl:"inherits,optional" cty:"inherits"`

	Annotations      []string           `json:"annotations,omitempty" hcl:"annotations,optional" cty:"annotations"`
	Attest           Attests            `json:"attest,omitempty" hcl:"attest,optional" cty:"attest"`
	Context          *string            `json:"context,omitempty" hcl:"context,optional" cty:"context"`
	Contexts         map[string]string  `json:"contexts,omitempty" hcl:"contexts,optional" cty:"contexts"`
	Dockerfile       *string            `json:"dockerfile,omitempty" hcl:"dockerfile,optional" cty:"dockerfile"`
	DockerfileInline *string            `json:"dockerfile-inline,omitempty" hcl:"dockerfile-inline,optional" cty:"dockerfile-inline"`
	Args             map[string]*string `json:"args,omitempty" hcl:"args,optional" cty:"args"`
	Labels           map[string]*string `json:"labels,omitempty" hcl:"labels,optional" cty:"labels"`
	Tags             []string           `json:"tags,omitempty" hcl:"tags,optional" cty:"tags"`
	CacheFrom        Caches             `json:"cache-from,omitempty" hcl:"cache-from,optional" cty:"cache-from"`
	CacheTo          Caches             `json:"cache-to,omitempty" hcl:"cache-to,optional" cty:"cache-to"`
	Target           *string            `json:"target,omitempty" hcl:"target,optional" cty:"target"`
	Secrets          Secrets            `json:"secret,omitempty" hcl:"secret,optional" cty:"secret"`
	SSH              SSHKeys            `json:"ssh,omitempty" hcl:"ssh,optional" cty:"ssh"`
	Platforms        []string           `json:"platforms,omitempty" hcl:"platforms,optional" cty:"platforms"`
	Outputs          Outputs            `json:"output,omitempty" hcl:"output,optional" cty:"output"`
	Pull             *bool              `json:"pull,omitempty" hcl:"pull,optional" cty:"pull"`
	NoCache          *bool              `json:"no-cache,omitempty" hcl:"no-cache,optional" cty:"no-cache"`
	Network          *string            `json:"network,omitempty" hcl:"network,optional" cty:"network"`
	NoCacheFilter    []string           `json:"no-cache-filter,omitempty" hcl:"no-cache-filter,optional" cty:"no-cache-filter"`
	ShmSize          *string            `json:"shm-size,omitempty" hcl:"shm-size,optional" cty:"shm-size"`
	Ulimits          []string           `json:"ulimits,omitempty" hcl:"ulimits,optional" cty:"ulimits"`
	Resources        *Resources         `json:"resources,omitempty" hcl:"resources,optional" cty:"resources"`
	Call             *string            `json:"call,omitempty" hcl:"call,optional" cty:"call"`
	Entitlements     []string           `json:"entitlements,omitempty" hcl:"entitlements,optional" cty:"entitlements"`
	ExtraHosts       map[string]*string `json:"extra-hosts,omitempty" hcl:"extra-hosts,optional" cty:"extra-hosts"`
	Policy           Policies           `json:"policy,omitempty" hcl:"policy,optional" cty:"policy"`

	// linked is set if the target is only a context of another one.
	linked bool
	base   contextBase
	// unused are the keys of a block that no target can have.
	unused []string
}

// Linked reports whether the target is only a context of other targets: nothing is made of its result.
func (t *Target) Linked() bool { return t.linked }

// Links are the targets that contexts of this one come from, by the names of the contexts.
func (t *Target) Links() map[string]string {
	links := map[string]string{}
	for name, value := range t.Contexts {
		if target, ok := strings.CutPrefix(value, "target:"); ok {
			links[name] = target
		}
	}
	return links
}

// MarshalJSON escapes templates, so that the output is a bake file.
func (t *Target) MarshalJSON() ([]byte, error) {
	type plain Target
	out := plain(*t)
	out.Annotations = slices.Clone(t.Annotations)
	for i, a := range out.Annotations {
		out.Annotations[i] = escape(a)
	}
	if t.DockerfileInline != nil {
		out.DockerfileInline = ref(escape(*t.DockerfileInline))
	}
	out.Args, out.Labels, out.ExtraHosts = escapeValues(t.Args), escapeValues(t.Labels), escapeValues(t.ExtraHosts)
	return json.Marshal(&out)
}

func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "${", "$${"), "%{", "%%{")
}

func escapeValues(m map[string]*string) map[string]*string {
	out := maps.Clone(m)
	for k, v := range out {
		if v != nil {
			out[k] = ref(escape(*v))
		}
	}
	return out
}

func ref[T any](v T) *T { return &v }

// SetBlockSource receives the block of a target (hclparser.WithBlockSource).
func (t *Target) SetBlockSource(block *hcl.Block) {
	t.base.read(t, block)
	t.unused = unusedKeys(block, reflect.TypeFor[Target]())
}
