// Package buildspec is the grammar of a build's options. It turns the texts of flags and bake files into typed values,
// which build and bake share. It reads no file and opens nothing.
package buildspec

import (
	"fmt"
	"maps"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The entitlements that --allow grants.
const (
	NetworkHost      = "network.host"
	SecurityInsecure = "security.insecure"
	LocalDelete      = "buildx.local.delete" // outputs with mode=delete outside of the working directory
)

// Spec is a build as its user describes it. The zero value builds the Dockerfile of an empty context for this machine.
type Spec struct {
	// Path is the build context: a directory, an archive, a URL, or "-" for stdin.
	Path string
	// Dockerfile is a path, a URL, or "-" for stdin; "" is Dockerfile in the context.
	Dockerfile string
	// Inline is the text of the Dockerfile, where the description of the build contains it.
	Inline []byte
	// Contexts are the named contexts: URLs (see IsRemote) or directories.
	Contexts  map[string]string
	BuildArgs map[string]string
	Labels    map[string]string
	Target    string
	// Platforms to build for; none is this machine's. Several make an index.
	Platforms []ocispec.Platform
	// Network of the RUN instructions: "", "default", "host" or "none".
	Network string
	// Hosts are entries of /etc/hosts for the RUN instructions.
	Hosts   []Host
	NoCache bool
	// NoCacheFilter are stages that are built without the cache.
	NoCacheFilter []string
	Pull          bool
	// HostCerts lets steps trust the certificate authorities of the host.
	HostCerts bool
	// ProxyNetwork makes a proxy of this process the only way out of steps. The policies decide about their requests as about sources.
	ProxyNetwork bool
	// ShmSize is the size of /dev/shm in bytes; 0 is the default.
	ShmSize int64
	// Ulimits are "name=soft:hard".
	Ulimits      []string
	CgroupParent string
	Limits       Limits
	// Allow are entitlements. AllowDelete is LocalDelete.
	Allow       []string
	AllowDelete bool
	Secrets     []Secret
	SSH         []SSH
	CacheFrom   []Cache
	CacheTo     []Cache
	// On says where the processes of steps run; nil for this host.
	On *On
	// Tags are names for the image, in any form that a user may type.
	Tags    []string
	Attests Attests
	Outputs []Output
	// Call asks the front end a question instead of building.
	Call Call
}

// Annotate adds annotations, by BuildKit's keys, to all outputs that are images. It reports whether there is one.
func (s *Spec) Annotate(annotations map[string]string) bool {
	found := false
	for i := range s.Outputs {
		o := &s.Outputs[i]
		if !o.IsImage() {
			continue
		}
		found = true
		if o.Form.Annotations == nil && len(annotations) > 0 {
			o.Form.Annotations = map[string]string{}
		}
		maps.Copy(o.Form.Annotations, annotations)
	}
	return found
}

// InlineCache reports whether the image carries its own cache.
func (s *Spec) InlineCache() bool {
	for _, c := range s.CacheTo {
		if c.Type == CacheInline {
			return true
		}
	}
	return false
}

// IsRemote reports whether a context is one that the build fetches, not a directory of the host.
func IsRemote(context string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "ssh://", "git@", "docker-image://", "oci-layout://"} {
		if strings.HasPrefix(context, prefix) {
			return true
		}
	}
	return false
}

// ParseContexts reads --build-context, "name=path" or "name=URL". Names have the form in which FROM and --from look them up.
func ParseContexts(list []string) (map[string]string, error) {
	contexts := map[string]string{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("invalid context value: %s, expected key=value", s)
		}
		named, err := contextName(name)
		if err != nil {
			return nil, err
		}
		contexts[named] = value
	}
	return contexts, nil
}

// contextName is the form of a name that the front end looks for.
func contextName(name string) (string, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", fmt.Errorf("invalid context name %s: %w", name, err)
	}
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest"), nil
}

// NormalizeContexts gives named contexts the names that ParseContexts does.
func NormalizeContexts(contexts map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for name, value := range contexts {
		named, err := contextName(name)
		if err != nil {
			return nil, err
		}
		out[named] = value
	}
	return out, nil
}

// ParseArgs reads --build-arg. An argument without a value has that of the environment; it is left out where that is not set.
func ParseArgs(list []string, env func(string) (string, bool)) map[string]string {
	args := map[string]string{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			if value, ok = env(name); !ok {
				continue
			}
		}
		args[name] = value
	}
	return args
}

// ParseLabels reads --label: "key=value", or a key alone for an empty value.
func ParseLabels(list []string) map[string]string {
	labels := map[string]string{}
	for _, s := range list {
		name, value, _ := strings.Cut(s, "=")
		labels[name] = value
	}
	return labels
}

// ParseNoCacheFilter reads --no-cache-filter: the names of stages, several of them with commas between them.
func ParseNoCacheFilter(list []string) []string {
	var stages []string
	for _, s := range list {
		stages = append(stages, strings.Split(s, ",")...)
	}
	return stages
}

// ParseAllow separates LocalDelete from the entitlements of the steps.
func ParseAllow(list []string) (entitlements []string, allowDelete bool) {
	for _, a := range list {
		if a == LocalDelete {
			allowDelete = true
		} else {
			entitlements = append(entitlements, a)
		}
	}
	return entitlements, allowDelete
}

// ParseNetwork checks --network.
func ParseNetwork(mode string) (string, error) {
	switch mode {
	case "", "default", "host", "none":
		return mode, nil
	}
	return "", fmt.Errorf("network mode %q is not supported: use default, host or none", mode)
}

// ParseShmSize reads --shm-size, such as "64m".
func ParseShmSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil {
		return 0, fmt.Errorf("invalid value %s for shm-size: %w", s, err)
	}
	return n, nil
}

// ParseUlimits reads --ulimit, "name=soft[:hard]". The last of a name counts.
func ParseUlimits(list []string) ([]string, error) {
	var out []string
	at := map[string]int{}
	for _, s := range list {
		u, err := units.ParseUlimit(s)
		if err != nil {
			return nil, fmt.Errorf("invalid ulimit %s: %w", s, err)
		}
		if i, ok := at[u.Name]; ok {
			out[i] = u.String()
			continue
		}
		at[u.Name] = len(out)
		out = append(out, u.String())
	}
	return out, nil
}
