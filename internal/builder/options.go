package builder

import (
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/util/entitlements"

	"github.com/micabuild/mica/internal/bridge"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/recorder"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/solver/ops"
)

// Options are a build and what it uses of the host.
type Options struct {
	buildspec.Spec
	// Context holds the files of the build: what Path and Dockerfile of the Spec name, opened.
	Context Context
	// Client has what the build uses in place of the files of this host; nil for a build on the host where its user is.
	Client Client
	// Frontend makes the result of the build; nil for the compiler of Dockerfiles.
	Frontend func(ctx context.Context, c client.Client) (*client.Result, error)
	// FrontendName is the name by which the user has asked for Frontend, "" for none.
	FrontendName string
	// Requests are those of other builds whose results may be inputs of this one; nil for none.
	Requests *Requests
	// Kept is the account of what is kept of front ends until the end of the build; nil for one of its own.
	Kept *bridge.Kept
	// Attrs are options for the compiler, under its names, in place of those that the Spec gives. Inputs are states that it uses in place of sources.
	Attrs  map[string]string
	Inputs map[string]*pb.Definition
	// Ref names the build in the history; "" for a new name. An internal build is not recorded.
	Ref      string
	Internal bool
	// Secret returns the value of a secret by its ID, or fs.ErrNotExist; nil if there are none.
	Secret func(ctx context.Context, id string) ([]byte, error)
	// SSH returns the agent that steps may use by its ID, nil for none.
	SSH func(ctx context.Context, id string) func(net.Conn)
	// Policies say which sources the build may have, and what replaces some; Policy asks the client as well, if it is not nil.
	Policies []*spb.Policy
	Policy   PolicyClient
	// Elsewhere runs the processes of steps in place of this host; nil for this host.
	Elsewhere *Elsewhere
	// HTTP sends the requests of http sources; nil for Go's default.
	HTTP *http.Client
	// Create opens the destination of an output that is not a directory.
	Create func(dest string) (Sink, error)
	// PushFailed decides about an error of the push of a name: nil goes on with the other names; nil for no exception.
	PushFailed func(error) error
	// Record asks for the provenance, whether the image has it or not.
	Record bool
	// ProvenanceEnv is what provenance says of this builder, beside the build.
	ProvenanceEnv map[string]any
	// Request and Exporters are what a client of BuildKit's API has asked for, for the history; nil for another build.
	Request   *history.Request
	Exporters []history.Exporter
	// MoreOutputs returns outputs that the client names when it knows the result of the front end, and the exporters by which it has named
	// them; nil for none.
	MoreOutputs func(ctx context.Context, res *client.Result) ([]buildspec.Output, []history.Exporter, error)
	// Compatibility is the version of BuildKit's behaviour (solver/llbsolver/compat), which provenance names; 0 for the current one.
	Compatibility int
	// Explain finds out which steps would run, and why, in place of building.
	Explain bool
	// At ends the build before the instruction at a line of the Dockerfile, or at the end of a stage, "" for a build of all. Inspect is
	// called with the state there, and its error is that of the build.
	At      string
	Inspect func(ctx context.Context, c *Container) error
	// OnFailure is called with the error of a RUN whose process has failed, and with what the process has left, or with that of a COPY or
	// ADD, and with the state before it, when all other steps have ended; nil for nothing.
	OnFailure func(ctx context.Context, c *Container, err error)
	// Events receives progress; nil for none.
	Events solver.Events
}

// addOutputs adds the outputs that the client names now that the front end has returned.
func (o *Options) addOutputs(ctx context.Context, res *client.Result, rec *recorder.Recorder) error {
	if o.MoreOutputs == nil {
		return nil
	}
	more, named, err := o.MoreOutputs(ctx, res)
	rec.Exporters(named)
	if err != nil || len(more) == 0 {
		return err
	}
	all := slices.DeleteFunc(slices.Clone(o.Outputs), func(e buildspec.Output) bool { return e.Type == buildspec.OutputNone })
	o.Outputs = slices.Concat(all, more)
	return nil
}

// frontendOptions are the options under the names that the compiler knows (frontend/dockerui).
func (o *Options) frontendOptions() map[string]string {
	opts := map[string]string{}
	for k, v := range o.BuildArgs {
		opts["build-arg:"+k] = v
	}
	for k, v := range o.Labels {
		opts["label:"+k] = v
	}
	for kind := range o.Attests {
		if kind == buildspec.AttestSBOM && o.catalogs() {
			continue // the compiler would run a scanner's image
		}
		opts["attest:"+kind] = o.Attests.FrontendOption(kind)
	}
	maps.Copy(opts, o.Limits.FrontendOptions())
	for name, v := range map[string]string{
		"target": o.Target, "cgroup-parent": o.CgroupParent, "ulimit": strings.Join(o.Ulimits, ","),
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
	if o.Call.Name != "" {
		opts["requestid"] = "frontend." + o.Call.Name
		opts[optCaps] = "moby.buildkit.frontend.subrequests+forward" // as in buildx: a front end without them would build
	}
	maps.Copy(opts, o.Context.options())
	o.addContexts(opts)
	if o.Network == "host" || o.Network == "none" {
		opts["force-network-mode"] = o.Network
	}
	if len(o.Hosts) > 0 {
		opts["add-hosts"] = extraHosts(o.Hosts, o.gateway())
	}
	o.addPlatforms(opts)
	maps.Copy(opts, o.Attrs)
	return opts
}

// addPlatforms adds the platforms, each once, in their normal form.
func (o *Options) addPlatforms(opts map[string]string) {
	var list []string
	for _, p := range o.Platforms {
		if full := platforms.FormatAll(platforms.Normalize(p)); !slices.Contains(list, full) {
			list = append(list, full)
		}
	}
	if len(list) > 0 {
		opts["platform"] = strings.Join(list, ",")
	}
}

// addContexts adds the named contexts. A directory is a local source with the name of the context.
func (o *Options) addContexts(opts map[string]string) {
	for name, value := range o.Contexts {
		if buildspec.IsRemote(value) {
			opts["context:"+name] = value
		} else {
			opts["context:"+name] = "local:" + localName(name)
		}
	}
}

// localName is the name of a named context as a local source, other than those of the build itself.
func localName(name string) string {
	if name == localContext || name == localDockerfile {
		return "_" + name
	}
	return name
}

// locals are the local sources that the build reads.
func (o *Options) locals() map[string]ops.Local {
	l := o.Context.locals()
	for name, dir := range o.Contexts {
		if !buildspec.IsRemote(dir) {
			l[localName(name)] = localDir(dir)
		}
	}
	return l
}

// entitlements are those that the user grants. --network=host grants the host's network.
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

// gateway is the address of the host as a step reaches it: the host's loopback for a step on the host's network.
func (o *Options) gateway() string {
	if o.Network == "host" {
		return "127.0.0.1"
	}
	return network.Gateway().String()
}

// extraHosts is the compiler's form of hosts: "name=address,…".
func extraHosts(hosts []buildspec.Host, gateway string) string {
	var list []string
	for _, h := range hosts {
		for _, ip := range h.Addresses {
			if ip == buildspec.HostGateway {
				ip = gateway
			}
			list = append(list, h.Name+"="+ip)
		}
	}
	return strings.Join(list, ",")
}

// request is the whole build as a request for its front end with the options.
func (o *Options) request(opts map[string]string) client.SolveRequest {
	name := o.FrontendName
	if o.Frontend == nil {
		name = dockerfileFrontend
	}
	return builtIn(client.SolveRequest{Frontend: name, FrontendOpt: opts, FrontendInputs: o.Inputs})
}
