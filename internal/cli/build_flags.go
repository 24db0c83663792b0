package cli

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/opts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/micabuild/mica/internal/agent"
	"github.com/micabuild/mica/internal/bake"
	"github.com/micabuild/mica/internal/builder"
)

// buildFlags are the flags of `docker buildx build` as they were typed.
type buildFlags struct {
	file, target, network, iidFile, metadataFile, progress, runtime, cgroupParent, call, provenance, sbom string
	tags, platforms, buildArgs, labels, addHosts, outputs, contexts, secrets, ssh, noCacheFilter          []string
	allow, resources, limits, annotations, cacheFrom, cacheTo, attests                                    []string
	noCache, pull, push, load, quiet, check, hostCerts                                                    bool
	shmSize                                                                                               opts.MemBytes
	ulimits                                                                                               *opts.UlimitOpt
}

func newBuildCommand(app *App) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:     "build [OPTIONS] PATH | URL | -",
		Short:   "Build an image from a Dockerfile",
		Args:    requireArgs(1, 1),
		Aliases: []string{"b"},
		RunE: func(cmd *cobra.Command, args []string) error {
			warnUnused(app, cmd.Flags())
			return runBuild(cmd.Context(), app, &f, args[0])
		},
	}
	f.add(cmd.Flags())
	f.addHidden(cmd.Flags())
	return cmd
}

func (f *buildFlags) add(fl *pflag.FlagSet) {
	f.ulimits = opts.NewUlimitOpt(nil)
	fl.StringVarP(&f.file, "file", "f", "", "Name of the Dockerfile (default: PATH/Dockerfile)")
	fl.StringVar(&f.target, "target", "", "Set the target build stage to build")
	fl.StringVar(&f.network, "network", "default", "Set the networking mode for the RUN instructions: default, host, none")
	fl.StringVar(&f.cgroupParent, "cgroup-parent", "", "Set the parent cgroup for the RUN instructions during build")
	fl.StringVar(&f.iidFile, "iidfile", "", "Write the image ID to a file")
	fl.StringVar(&f.metadataFile, "metadata-file", "", "Write build result metadata to a file")
	fl.StringVar(&f.progress, "progress", cmp.Or(os.Getenv("BUILDKIT_PROGRESS"), "auto"), "Set type of progress output (auto, plain, tty, quiet, rawjson)")
	fl.StringVar(&f.runtime, "runtime", "", "OCI runtime that runs the steps (default: $MICA_RUNTIME, else crun, else runc)")
	fl.StringArrayVarP(&f.tags, "tag", "t", nil, "Name and optionally a tag (format: name:tag)")
	fl.StringSliceVar(&f.platforms, "platform", nil, "Set target platform for build")
	fl.StringArrayVar(&f.buildArgs, "build-arg", nil, "Set build-time variables")
	fl.StringArrayVar(&f.contexts, "build-context", nil, "Additional build contexts (e.g., name=path)")
	fl.StringArrayVar(&f.labels, "label", nil, "Set metadata for an image")
	fl.StringSliceVar(&f.addHosts, "add-host", nil, "Add a custom host-to-IP mapping (format: host:ip)")
	fl.StringArrayVarP(&f.outputs, "output", "o", nil, `Output destination (format: "type=local,dest=path")`)
	fl.StringArrayVar(&f.secrets, "secret", nil, `Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")`)
	fl.StringArrayVar(&f.ssh, "ssh", nil, `SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>|<key>[,<key>]]")`)
	fl.StringArrayVar(&f.noCacheFilter, "no-cache-filter", nil, "Do not cache specified stages")
	fl.StringArrayVar(&f.allow, "allow", nil, `Allow extra privileged entitlement (e.g., "network.host", "security.insecure")`)
	fl.StringArrayVar(&f.resources, "resource", nil, `Resource limits for the RUN instructions (format: "memory=2g", "cpu-quota=50000")`)
	fl.StringArrayVar(&f.annotations, "annotation", nil, "Add annotation to the image")
	fl.StringVar(&f.call, "call", "build", `Set method for evaluating build ("check", "outline", "targets")`)
	fl.BoolVar(&f.check, "check", false, `Shorthand for "--call=check"`)
	fl.StringArrayVar(&f.attests, "attest", nil, `Attestation parameters (format: "type=sbom,generator=image")`)
	fl.StringVar(&f.provenance, "provenance", "", `Shorthand for "--attest=type=provenance"`)
	fl.StringVar(&f.sbom, "sbom", "", `Shorthand for "--attest=type=sbom"`)
	fl.StringArrayVar(&f.cacheFrom, "cache-from", nil, `External cache sources (e.g., "user/app:cache", "type=local,src=path/to/dir")`)
	fl.StringArrayVar(&f.cacheTo, "cache-to", nil, `Cache export destinations (e.g., "user/app:cache", "type=local,dest=path/to/dir")`)
	fl.Var(&f.shmSize, "shm-size", "Shared memory size for the RUN instructions")
	fl.Var(f.ulimits, "ulimit", "Ulimit options")
	fl.BoolVar(&f.hostCerts, "host-certs", false, "Let RUN instructions trust the host's certificate authorities")
	fl.BoolVar(&f.noCache, "no-cache", false, "Do not use cache when building the image")
	fl.BoolVar(&f.pull, "pull", false, "Always attempt to pull all referenced images")
	fl.BoolVar(&f.push, "push", false, `Shorthand for "--output=type=registry"`)
	fl.BoolVar(&f.load, "load", false, `Shorthand for "--output=type=docker"`)
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
}

// options turns the flags into what the build is told.
func (f *buildFlags) options(app *App) (o *builder.Options, err error) {
	o = &builder.Options{
		Target: f.target, Platforms: f.platforms, Network: f.network, AddHosts: f.addHosts,
		NoCache: f.noCache, Pull: f.pull, Tags: f.tags,
		HostCerts: f.hostCerts, CgroupParent: f.cgroupParent, ShmSize: f.shmSize.Value(),
		Allow: slices.DeleteFunc(slices.Clone(f.allow), func(a string) bool { return a == bake.LocalDelete }),
		// An argument without a value takes the environment's, and is not set when that is not.
		BuildArgs: opts.ConvertKVStringsToMap(fromEnvironment(f.buildArgs)),
		Labels:    opts.ConvertKVStringsToMap(f.labels),
	}
	// As buildx does: these two come from the environment, too.
	const epoch = "SOURCE_DATE_EPOCH"
	if v, ok := os.LookupEnv(epoch); ok && !hasArgument(f.buildArgs, epoch) {
		o.BuildArgs[epoch] = v
	}
	if p := os.Getenv("DOCKER_DEFAULT_PLATFORM"); p != "" && len(o.Platforms) == 0 {
		o.Platforms = []string{p}
	}
	for _, list := range f.noCacheFilter {
		o.NoCacheFilter = append(o.NoCacheFilter, strings.Split(list, ",")...)
	}
	for _, u := range f.ulimits.GetList() {
		o.Ulimits = append(o.Ulimits, u.String())
	}
	addProxies(app, o.BuildArgs)
	if o.Contexts, err = parseContexts(f.contexts); err != nil {
		return nil, err
	}
	if o.Attest, err = f.parseAttests(); err != nil {
		return nil, err
	}
	if o.CacheFrom, err = parseCaches(f.cacheFrom, false); err != nil {
		return nil, err
	}
	if o.CacheTo, err = parseCaches(f.cacheTo, true); err != nil {
		return nil, err
	}
	// As docker has it: an argument of BuildKit's own, too.
	if v, _ := strconv.ParseBool(o.BuildArgs["BUILDKIT_INLINE_CACHE"]); v {
		o.CacheTo = append(o.CacheTo, builder.Cache{Type: builder.CacheInline})
	}
	if o.Resources, err = parseResources(slices.Concat(f.limits, f.resources)); err != nil {
		return nil, err
	}
	if o.Secret, err = parseSecrets(f.secrets); err != nil {
		return nil, err
	}
	agents, err := parseSSH(f.ssh)
	if err == nil {
		o.SSH, err = agent.New(agents)
	}
	if err != nil {
		return nil, err
	}
	if o.Exports, err = parseOutputs(app, f.outputs); err != nil {
		return nil, err
	}
	if err := checkRemovals(o.Exports, f.allow); err != nil {
		return nil, err
	}
	if f.push || f.load || len(o.Exports) == 0 {
		o.Exports = append(o.Exports, builder.Export{Type: builder.ExportImage, Push: f.push, Absent: !f.load})
	}
	call, err := f.parseCall()
	if err != nil {
		return nil, err
	}
	o.Call = call.name
	return o, f.annotate(o.Exports)
}

func hasArgument(args []string, name string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return a == name || strings.HasPrefix(a, name+"=") })
}

// addProxies adds the proxies of docker's configuration file to build arguments, as docker does. Those of the environment
// are not taken: an image's history shows the arguments that its Dockerfile declares.
func addProxies(app *App, args map[string]string) {
	for name, value := range app.dockerConfig().ParseProxyConfig("default", nil) {
		if _, set := args[name]; !set && value != nil {
			args[name] = *value
		}
	}
}

func fromEnvironment(args []string) []string {
	var set []string
	for _, a := range args {
		if strings.Contains(a, "=") {
			set = append(set, a)
		} else if v, ok := os.LookupEnv(a); ok {
			set = append(set, a+"="+v)
		}
	}
	return set
}

// parseAttests reads --attest, --provenance and --sbom, the later of a type winning; "false" and disabled=true take one away.
func (f *buildFlags) parseAttests() (map[string]string, error) {
	list := slices.Clone(f.attests)
	for kind, value := range map[string]string{"provenance": f.provenance, "sbom": f.sbom} {
		if value == "" {
			continue
		}
		if on, err := strconv.ParseBool(value); err == nil {
			value = fmt.Sprintf("disabled=%t", !on)
		}
		list = append(list, "type="+kind+","+value)
	}
	attests := map[string]string{}
	for _, s := range list {
		fields, err := csvvalue.Fields(s, nil)
		if err != nil {
			return nil, fmt.Errorf("invalid attestation %q: %w", s, err)
		}
		kind, off, rest := "", false, []string{}
		for _, field := range fields {
			key, value, ok := strings.Cut(field, "=")
			switch strings.ToLower(strings.TrimSpace(key)) {
			case "type":
				kind = value
			case "disabled":
				if off, err = strconv.ParseBool(value); err != nil {
					return nil, fmt.Errorf("invalid attestation %q: disabled is true or false", s)
				}
			default:
				if !ok {
					return nil, fmt.Errorf("invalid attestation %q: expected key=value, not %q", s, field)
				}
				rest = append(rest, field)
			}
		}
		if kind != "provenance" && kind != "sbom" {
			return nil, fmt.Errorf("invalid attestation %q: the type is provenance or sbom", s)
		}
		delete(attests, kind)
		if !off {
			attests[kind] = strings.Join(rest, ",")
		}
	}
	return attests, nil
}

// parseCaches reads --cache-from and --cache-to: "type=…,key=value", or a name in a registry.
func parseCaches(list []string, to bool) ([]builder.Cache, error) {
	var caches []builder.Cache
	for _, s := range list {
		fields, err := csvvalue.Fields(s, nil)
		if err != nil {
			return nil, fmt.Errorf("invalid cache %q: %w", s, err)
		}
		c := builder.Cache{Attrs: map[string]string{}}
		for _, f := range fields {
			key, value, ok := strings.Cut(f, "=")
			switch {
			case !ok && len(fields) == 1:
				c.Type, c.Attrs["ref"] = builder.CacheRegistry, f
			case !ok:
				return nil, fmt.Errorf("invalid value %s in cache %q: expected key=value", f, s)
			case strings.ToLower(key) == "type":
				c.Type = value
			default:
				c.Attrs[strings.ToLower(key)] = value
			}
		}
		if err := c.Check(to); err != nil {
			return nil, fmt.Errorf("invalid cache %q: %w", s, err)
		}
		caches = append(caches, c)
	}
	return caches, nil
}

// parseContexts reads --build-context: name=path, or name=URL. The name is one that FROM and --from know in any form.
func parseContexts(list []string) (map[string]string, error) {
	contexts := map[string]string{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("invalid context value: %s, expected key=value", s)
		}
		if !builder.IsRemote(value) {
			info, err := os.Stat(value)
			if err == nil && !info.IsDir() {
				err = fmt.Errorf("%s is not a folder", value)
			}
			if err != nil {
				return nil, fmt.Errorf("failed to get build context %s: %w", name, err)
			}
		}
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, fmt.Errorf("invalid context name %s: %w", name, err)
		}
		contexts[strings.TrimSuffix(reference.FamiliarString(named), ":latest")] = value
	}
	return contexts, nil
}
