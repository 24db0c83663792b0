package buildcmd

import (
	"cmp"
	"errors"
	"os"
	"slices"

	"github.com/docker/cli/opts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cli/command"
)

// buildFlags are the flags of `docker buildx build` as they were typed.
type buildFlags struct {
	file, target, network, iidFile, metadataFile, progress, runtime, cgroupParent, call, provenance, sbom, on string
	tags, platforms, buildArgs, labels, addHosts, outputs, contexts, secrets, ssh, noCacheFilter              []string
	allow, resources, limits, annotations, cacheFrom, cacheTo, attests                                        []string
	noCache, pull, push, load, quiet, check, hostCerts, proxyNetwork, explain                                 bool
	shmSize                                                                                                   opts.MemBytes
	ulimits                                                                                                   *opts.UlimitOpt
	inspect                                                                                                   inspectFlags
	pushFailed                                                                                                func(error) error // see Build
}

const proxyUsage = "Let RUN instructions reach http and https servers only, by a proxy that records what they fetch"

// NewBuildCommand is `mica build`.
func NewBuildCommand(app *command.App) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:     "build [OPTIONS] PATH | URL | -",
		Short:   "Build an image from a Dockerfile",
		Args:    command.RequireArgs(1, 1),
		Aliases: []string{"b"},
		RunE: func(cmd *cobra.Command, args []string) error {
			warnUnused(app, cmd.Flags())
			_, err := runBuild(cmd.Context(), app, &f, args[0])
			return err
		},
	}
	f.add(cmd.Flags())
	f.addHidden(cmd.Flags())
	app.AddIsolation(cmd.Flags())
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
	fl.StringVar(&f.on, "on", "", onUsage)
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
	fl.BoolVar(&f.explain, "explain", false, "Show which steps would run, and why, and run none")
	f.inspect.add(fl)
	fl.StringArrayVar(&f.attests, "attest", nil, `Attestation parameters (format: "type=sbom,generator=image")`)
	fl.StringVar(&f.provenance, "provenance", "", `Shorthand for "--attest=type=provenance"`)
	fl.StringVar(&f.sbom, "sbom", "", `Shorthand for "--attest=type=sbom"`)
	fl.StringArrayVar(&f.cacheFrom, "cache-from", nil, `External cache sources (e.g., "user/app:cache", "type=local,src=path/to/dir")`)
	fl.StringArrayVar(&f.cacheTo, "cache-to", nil, `Cache export destinations (e.g., "user/app:cache", "type=local,dest=path/to/dir")`)
	fl.Var(&f.shmSize, "shm-size", "Shared memory size for the RUN instructions")
	fl.Var(f.ulimits, "ulimit", "Ulimit options")
	fl.BoolVar(&f.hostCerts, "host-certs", false, "Let RUN instructions trust the host's certificate authorities")
	fl.BoolVar(&f.proxyNetwork, "proxy-network", false, proxyUsage)
	fl.BoolVar(&f.noCache, "no-cache", false, "Do not use cache when building the image")
	fl.BoolVar(&f.pull, "pull", false, "Always attempt to pull all referenced images")
	fl.BoolVar(&f.push, "push", false, `Shorthand for "--output=type=registry"`)
	fl.BoolVar(&f.load, "load", false, `Shorthand for "--output=type=docker"`)
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
}

// spec reads the flags of a build of path.
func (f *buildFlags) spec(path string) (*buildspec.Spec, error) {
	s := &buildspec.Spec{
		Path: path, Dockerfile: f.file, Target: f.target, Tags: f.tags, CgroupParent: f.cgroupParent, ShmSize: f.shmSize.Value(),
		BuildArgs: buildspec.ParseArgs(f.buildArgs, os.LookupEnv), Labels: buildspec.ParseLabels(f.labels),
		NoCache: f.noCache, NoCacheFilter: buildspec.ParseNoCacheFilter(f.noCacheFilter), Pull: f.pull, HostCerts: f.hostCerts,
		ProxyNetwork: f.proxyNetwork,
	}
	s.Allow, s.AllowDelete = buildspec.ParseAllow(f.allow)
	for _, u := range f.ulimits.GetList() {
		s.Ulimits = append(s.Ulimits, u.String())
	}
	for _, parse := range []func(*buildspec.Spec) error{f.parseEnvironment, f.parseSources, f.parseResults} {
		if err := parse(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// parseEnvironment reads the flags that say what steps see of the host.
func (f *buildFlags) parseEnvironment(s *buildspec.Spec) (err error) {
	if s.Limits, err = buildspec.ParseLimits(slices.Concat(f.limits, f.resources)); err != nil {
		return err
	}
	// buildx reports mistakes in these three as a failed build.
	if s.Platforms, err = buildspec.ParsePlatforms(f.platforms); err != nil {
		return command.FailedBuild{Err: err}
	}
	if s.Network, err = buildspec.ParseNetwork(f.network); err != nil {
		return command.FailedBuild{Err: err}
	}
	if s.Hosts, err = buildspec.ParseHosts(f.addHosts); err != nil {
		return command.FailedBuild{Err: err}
	}
	if s.Secrets, err = buildspec.ParseSecrets(f.secrets); err != nil {
		return err
	}
	s.SSH, err = buildspec.ParseSSH(f.ssh)
	return err
}

// parseSources reads the flags that say what a build is made from.
func (f *buildFlags) parseSources(s *buildspec.Spec) (err error) {
	if s.Contexts, err = buildspec.ParseContexts(f.contexts); err != nil {
		return err
	}
	s.CacheFrom, err = buildspec.ParseCaches(f.cacheFrom, false)
	return err
}

// parseResults reads the flags that say what is made of the build.
func (f *buildFlags) parseResults(s *buildspec.Spec) (err error) {
	if s.Attests, err = buildspec.ParseAttests(f.attestations()); err != nil {
		return err
	}
	if s.CacheTo, err = buildspec.ParseCaches(f.cacheTo, true); err != nil {
		return err
	}
	if s.On, err = buildspec.ParseOn(f.on, s.CacheTo); err != nil {
		return err
	}
	if s.Outputs, err = buildspec.ParseOutputs(f.outputs); err != nil {
		return err
	}
	if f.push || f.load || len(s.Outputs) == 0 {
		s.Outputs = append(s.Outputs, buildspec.Output{Type: buildspec.OutputImage, Push: f.push, Lazy: !f.load})
	}
	if s.Call, err = parseCall(f.call, f.check); err != nil {
		return err
	}
	annotations, err := buildspec.ParseAnnotations(f.annotations)
	if err == nil && !s.Annotate(annotations) && len(annotations) > 0 {
		err = errors.New("annotations need an output that is an image: type=image, registry, oci or docker")
	}
	return err
}

// parseCall reads --call and --check.
func parseCall(call string, check bool) (buildspec.Call, error) {
	if check {
		call = "check"
	}
	return buildspec.ParseCall(call)
}

// attestations are the values of --attest, and those of --provenance and --sbom in the same form. The last of a type counts.
func (f *buildFlags) attestations() []string {
	list := slices.Clone(f.attests)
	for _, a := range []struct{ kind, value string }{{buildspec.AttestProvenance, f.provenance}, {buildspec.AttestSBOM, f.sbom}} {
		if a.value != "" {
			list = append(list, buildspec.CanonicalAttest(a.kind, a.value))
		}
	}
	return list
}
