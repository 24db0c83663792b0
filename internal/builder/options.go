package builder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/util/entitlements"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// Options are what `docker build` is told. The zero value builds the Dockerfile of Context for this machine.
type Options struct {
	Context Context
	// Contexts are named contexts: an URL ("docker-image://…", "oci-layout://…", of git or http), or a folder of the host.
	Contexts  map[string]string
	BuildArgs map[string]string
	Labels    map[string]string
	Target    string
	// Platforms are what to build for; none is this machine's. More than one make an index.
	Platforms []string
	// Network of RUN: "", "default", "host" or "none".
	Network string
	// AddHosts are "name:address" entries for /etc/hosts.
	AddHosts []string
	NoCache  bool
	// NoCacheFilter are stages that are built without the cache.
	NoCacheFilter []string
	Pull          bool
	// ShmSize is the size of /dev/shm, in bytes; 0 for the default.
	ShmSize int64
	// Ulimits are "name=soft:hard".
	Ulimits      []string
	CgroupParent string
	// Resources are limits as BuildKit's front end has them: "memory", "memswap", "cpushares", "cpuperiod", "cpuquota",
	// "cpusetcpus" and "cpusetmems".
	Resources map[string]string
	// Allow are entitlements: "network.host", "security.insecure".
	Allow []string
	// Secret gives the value of a secret by its ID, or fs.ErrNotExist; nil where there are none.
	Secret func(ctx context.Context, id string) ([]byte, error)
	// SSH are the agents that steps may talk to, by their IDs.
	SSH map[string]func(net.Conn)
	// CacheFrom and CacheTo are caches of others that are read, and written.
	CacheFrom, CacheTo []Cache
	// HostCerts lets steps trust the certificate authorities of this host.
	HostCerts bool
	// Tags are names for the image, in any form that a user may type.
	Tags []string
	// Attest are attestations by their type, with attributes as BuildKit has them: "provenance": "mode=max".
	Attest map[string]string
	// Record asks for the provenance, whether the image is to have it or not.
	Record bool
	// Call asks the front end something in place of a build: "lint", "outline", "targets".
	Call string
	// Exports say what is made of the result; none means an image in the store.
	Exports []Export
	// Events receives progress; nil for none.
	Events solver.Events
}

// frontendOptions are the options under the names that the compiler knows (frontend/dockerui).
func (o *Options) frontendOptions() (map[string]string, error) {
	opts := map[string]string{}
	for k, v := range o.BuildArgs {
		opts["build-arg:"+k] = v
	}
	for k, v := range o.Labels {
		opts["label:"+k] = v
	}
	for k, v := range o.Attest {
		opts["attest:"+k] = v
	}
	for k, v := range o.Resources {
		opts[k] = v
	}
	for name, v := range map[string]string{
		"target": o.Target, "cgroup-parent": o.CgroupParent, "filename": o.Context.filename(), "ulimit": strings.Join(o.Ulimits, ","),
		"no-cache": strings.Join(o.NoCacheFilter, ","),
	} {
		if v != "" {
			opts[name] = v
		}
	}
	if o.ShmSize > 0 {
		opts["shm-size"] = strconv.FormatInt(o.ShmSize, 10)
	}
	if o.NoCache {
		opts["no-cache"] = ""
	}
	if o.Pull {
		opts["image-resolve-mode"] = "pull"
	}
	if o.Call != "" {
		opts["requestid"] = "frontend." + o.Call
	}
	if o.Context.Remote != "" {
		opts["context"] = o.Context.Remote
		if o.Context.Inline != nil {
			opts["dockerfilekey"] = localDockerfile
		}
	}
	o.addContexts(opts)
	switch o.Network {
	case "", "default":
	case "host", "none":
		opts["force-network-mode"] = o.Network
	default:
		return nil, fmt.Errorf("network mode %q is not supported: use default, host or none", o.Network)
	}
	if len(o.AddHosts) > 0 {
		hosts, err := extraHosts(o.AddHosts, o.gateway())
		if err != nil {
			return nil, err
		}
		opts["add-hosts"] = hosts
	}
	return opts, o.addPlatforms(opts)
}

// addPlatforms adds the platforms, each once, in their normal form.
func (o *Options) addPlatforms(opts map[string]string) error {
	all, err := ParsePlatforms(o.Platforms)
	if err != nil {
		return err
	}
	var list []string
	for _, p := range all {
		if full := platforms.FormatAll(platforms.Normalize(p)); !slices.Contains(list, full) {
			list = append(list, full)
		}
	}
	if len(list) > 0 {
		opts["platform"] = strings.Join(list, ",")
	}
	return nil
}

// addContexts adds the named contexts. A folder is a local source, called as the context is.
func (o *Options) addContexts(opts map[string]string) {
	for name, value := range o.Contexts {
		if IsRemote(value) {
			opts["context:"+name] = value
		} else {
			opts["context:"+name] = "local:" + localName(name)
		}
	}
}

// localName is what a named context is called as a local source, beside those of the build itself.
func localName(name string) string {
	if name == localContext || name == localDockerfile {
		return "_" + name
	}
	return name
}

// locals are the folders that the build reads.
func (o *Options) locals() map[string]solver.Local {
	l := o.Context.locals()
	for name, dir := range o.Contexts {
		if !IsRemote(dir) {
			l[localName(name)] = func(opt view.DirOptions) (view.View, error) { return view.Dir(dir, opt) }
		}
	}
	return l
}

// ParsePlatforms reads platforms, of which several may stand in one text with commas between them.
func ParsePlatforms(names []string) ([]ocispec.Platform, error) {
	var all []ocispec.Platform
	for _, list := range names {
		for name := range strings.SplitSeq(list, ",") {
			p, err := parsePlatform(name)
			if err != nil {
				return nil, fmt.Errorf("invalid platform %q: %w", name, err)
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// parsePlatform reads a platform; "local" is this machine's, as for buildx.
func parsePlatform(name string) (ocispec.Platform, error) {
	switch strings.ToLower(name) {
	case "local":
		return platforms.DefaultSpec(), nil
	case "":
		return ocispec.Platform{}, errors.New("it has no name")
	}
	return platforms.Parse(name)
}

// entitlements are those that the user grants; who asks for the host's network has granted it.
func (o *Options) entitlements() (entitlements.Set, error) {
	var list []entitlements.Entitlement
	for _, a := range o.Allow {
		list = append(list, entitlements.Entitlement(a))
	}
	if o.Network == "host" {
		list = append(list, entitlements.EntitlementNetworkHost)
	}
	return entitlements.WhiteList(list, nil)
}

// hostGateway stands for the address of the host as a step reaches it.
const hostGateway = "host-gateway"

// gateway is that address: the host's loopback for a step on the host's network.
func (o *Options) gateway() string {
	if o.Network == "host" {
		return "127.0.0.1"
	}
	return network.Gateway().String()
}

// extraHosts turns "name:address" and "name=address", of which several may follow each other, into the compiler's
// "name=address,…".
func extraHosts(hosts []string, gateway string) (string, error) {
	var list []string
	for _, h := range hosts {
		name, addresses, ok := strings.Cut(h, "=")
		if !ok {
			name, addresses, ok = strings.Cut(h, ":")
		}
		if !ok || name == "" || addresses == "" {
			return "", fmt.Errorf("invalid host %s: use name:address", h)
		}
		for ip := range strings.SplitSeq(addresses, ",") {
			if ip == hostGateway {
				ip = gateway
			}
			if ip = strings.Trim(ip, "[]"); net.ParseIP(ip) == nil {
				return "", fmt.Errorf("invalid host %s: %q is no IP address", h, ip)
			}
			list = append(list, name+"="+ip)
		}
	}
	return strings.Join(list, ","), nil
}
