package buildcmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/buildx/util/urlutil"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/bake"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/userns"
)

// bakeFlags are the flags of `docker buildx bake` as they were typed.
type bakeFlags struct {
	files, set, vars, allow                                                                 []string
	call, list, metadataFile, progress, runtime, sbom, provenance, on                       string
	print, load, push, noCache, pull, check, hostCerts, proxyNetwork, setNoCache, setUpdate bool
	inspect                                                                                 inspectFlags
}

// NewBakeCommand is `mica bake`.
func NewBakeCommand(app *command.App) *cobra.Command {
	var f bakeFlags
	cmd := &cobra.Command{
		Use:     "bake [OPTIONS] [TARGET...]",
		Short:   "Build from a file",
		Args:    command.RequireArgs(0, -1),
		Aliases: []string{"f"},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.setNoCache, f.setUpdate = cmd.Flags().Changed("no-cache"), cmd.Flags().Changed("pull")
			return runBake(cmd.Context(), app, &f, args)
		},
	}
	f.add(cmd.Flags())
	app.AddIsolation(cmd.Flags())
	return cmd
}

func (f *bakeFlags) add(fl *pflag.FlagSet) {
	fl.StringArrayVarP(&f.files, "file", "f", nil, "Build definition file")
	fl.StringArrayVar(&f.set, "set", nil, `Override target value (e.g., "targetpattern.key=value")`)
	fl.StringArrayVar(&f.vars, "var", nil, `Set a variable value (e.g., "name=value")`)
	fl.StringArrayVar(&f.allow, "allow", nil, "Allow build to access specified resources")
	fl.StringVar(&f.call, "call", "build", `Set method for evaluating build ("check", "outline", "targets")`)
	fl.StringVar(&f.list, "list", "", "List targets or variables")
	fl.StringVar(&f.metadataFile, "metadata-file", "", "Write build result metadata to a file")
	fl.StringVar(&f.progress, "progress", cmp.Or(os.Getenv("BUILDKIT_PROGRESS"), "auto"), "Set type of progress output (auto, plain, tty, quiet, rawjson)")
	fl.StringVar(&f.runtime, "runtime", "", "OCI runtime that runs the steps (default: $MICA_RUNTIME, else crun, else runc)")
	fl.StringVar(&f.on, "on", "", onUsage)
	f.inspect.addFailure(fl)
	fl.StringVar(&f.sbom, "sbom", "", `Shorthand for "--set=*.attest=type=sbom"`)
	fl.StringVar(&f.provenance, "provenance", "", `Shorthand for "--set=*.attest=type=provenance"`)
	fl.BoolVar(&f.print, "print", false, "Print the options without building")
	fl.BoolVar(&f.load, "load", false, `Shorthand for "--set=*.output=type=docker". Conditional.`)
	fl.BoolVar(&f.push, "push", false, `Shorthand for "--set=*.output=type=registry". Conditional.`)
	fl.BoolVar(&f.noCache, "no-cache", false, "Do not use cache when building the image")
	fl.BoolVar(&f.pull, "pull", false, "Always attempt to pull all referenced images")
	fl.BoolVar(&f.check, "check", false, `Shorthand for "--call=check"`)
	fl.BoolVar(&f.hostCerts, "host-certs", false, "Let RUN instructions trust the host's certificate authorities")
	fl.BoolVar(&f.proxyNetwork, "proxy-network", false, proxyUsage)
}

func runBake(ctx context.Context, app *command.App, f *bakeFlags, targets []string) error {
	if len(targets) > 0 && urlutil.IsRemoteURL(targets[0]) {
		return fmt.Errorf("bake files of %s: remote bake files are not supported", targets[0])
	}
	if f.print && f.list != "" {
		return errors.New("--print and --list are mutually exclusive")
	}
	if f.list != "" {
		return f.printList(ctx, app, targets)
	}
	if !f.print {
		if err := checkDirectoryOf("metadata-file", f.metadataFile); err != nil {
			return err
		}
		if err := f.open(ctx, app, targets); err != nil {
			return err
		}
	}
	def, err := f.evaluate(ctx, app, targets)
	if err != nil {
		return err
	}
	if f.print {
		return printDefinition(app, def)
	}
	builds, err := f.targets(def)
	if err != nil {
		return err
	}
	if err := f.allowed(def); err != nil {
		return err
	}
	if err := openBuilds(ctx, app, specsOf(builds)...); err != nil {
		return err
	}
	warnUnusedKeys(app, def)
	return f.build(ctx, app, def, builds)
}

// warnUnusedKeys prints the keys that buildx ignores in silence.
func warnUnusedKeys(app *command.App, def *bake.Definition) {
	for _, key := range def.Unused {
		fmt.Fprintf(app.Stderr, "WARNING: %s\n", key)
	}
}

// open opens the store before stdin is read: the mica of an ordinary user restarts in a user namespace and, if a target has limits,
// in a cgroup. To know the limits, it reads the files one time more. If they cannot be read twice, only a cgroup that mica was
// started in can limit the steps.
func (f *bakeFlags) open(ctx context.Context, app *command.App, targets []string) error {
	if userns.IsRealRoot() || !f.readableTwice() {
		return app.Open(ctx)
	}
	def, err := f.evaluate(ctx, app, targets)
	if err != nil {
		return err
	}
	builds, err := f.targets(def)
	if err != nil {
		return err
	}
	return openBuilds(ctx, app, specsOf(builds)...)
}

func (f *bakeFlags) printList(ctx context.Context, app *command.App, targets []string) error {
	o, err := f.options(targets)
	if err != nil {
		return err
	}
	files, err := f.read(ctx, app)
	if err != nil {
		return err
	}
	return printBakeList(app, f.list, files, *o)
}

// evaluate reads the files and resolves the targets.
func (f *bakeFlags) evaluate(ctx context.Context, app *command.App, targets []string) (*bake.Definition, error) {
	o, err := f.options(targets)
	if err != nil {
		return nil, err
	}
	files, err := f.read(ctx, app)
	if err != nil {
		return nil, err
	}
	def, err := bake.Read(files, *o)
	if err != nil {
		return nil, err
	}
	addEpoch(def)
	return def, nil
}

// printDefinition prints the targets as buildx does.
func printDefinition(app *command.App, def *bake.Definition) error {
	for _, name := range slices.Sorted(maps.Keys(def.Targets)) {
		if err := def.Targets[name].Check(); err != nil {
			return fmt.Errorf("target %s: %w", name, err)
		}
	}
	warnUnusedKeys(app, def)
	return printIndented(app, def)
}

// readableTwice reports whether the files that are named are files, not stdin or a pipe.
func (f *bakeFlags) readableTwice() bool {
	for _, name := range f.names() {
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			return false
		}
	}
	return true
}

func specsOf(builds map[string]*bakeTarget) []*buildspec.Spec {
	var list []*buildspec.Spec
	for _, name := range slices.Sorted(maps.Keys(builds)) {
		list = append(list, builds[name].spec)
	}
	return list
}

// names are the files that are named by flags or by BUILDX_BAKE_FILE.
func (f *bakeFlags) names() []string {
	names := f.files
	if list, ok := os.LookupEnv("BUILDX_BAKE_FILE"); ok && len(names) == 0 {
		separator := cmp.Or(os.Getenv("BUILDX_BAKE_PATH_SEPARATOR"), string(os.PathListSeparator))
		for name := range strings.SplitSeq(list, separator) {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
	}
	var local []string
	for _, name := range names {
		local = append(local, strings.TrimPrefix(name, "cwd://"))
	}
	return local
}

// read reads the files that are named, or those that are there by convention.
func (f *bakeFlags) read(ctx context.Context, app *command.App) ([]bake.File, error) {
	return bake.ReadFiles(f.names(), app.Input(ctx))
}

// options are those of reading files, from the flags and the environment.
func (f *bakeFlags) options(targets []string) (*bake.Options, error) {
	o := &bake.Options{
		Targets: targets,
		Vars:    map[string]string{},
		Defaults: map[string]string{
			"BAKE_CMD_CONTEXT":    "cwd://",
			"BAKE_LOCAL_PLATFORM": platforms.Format(platforms.DefaultSpec()),
		},
	}
	for _, v := range f.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("invalid variable %q, expected key=value", v)
		}
		o.Vars[name] = value
	}
	if blind, _ := strconv.ParseBool(os.Getenv("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP")); !blind {
		o.Env, o.Environ = os.LookupEnv, os.Environ()
	}
	var err error
	if o.FileRelative, err = boolVariable("BUILDX_BAKE_FILE_RELATIVE_PATHS", false); err != nil {
		return nil, err
	}
	o.Overrides, err = f.overrides()
	return o, err
}

func boolVariable(name string, unset bool) (bool, error) {
	v := strings.TrimSpace(os.Getenv(name))
	if v == "" {
		return unset, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("failed to parse %s value %q: use true or false", name, v)
	}
	return b, nil
}

// overrides are those of --set, and of the flags that are shorthands for overrides.
func (f *bakeFlags) overrides() ([]string, error) {
	all := append([]string{}, f.set...)
	call, err := parseCall(f.call, f.check)
	if err != nil {
		return nil, err
	}
	for _, o := range []struct {
		on   bool
		text string
	}{
		{f.push, "*.push=true"},
		{f.load, "*.load=true"},
		{call.Name != "", "*.call=" + call.Name},
		{f.setNoCache, "*.no-cache=" + strconv.FormatBool(f.noCache)},
		{f.setUpdate, "*.pull=" + strconv.FormatBool(f.pull)},
		{f.sbom != "", "*.attest=" + buildspec.CanonicalAttest(buildspec.AttestSBOM, f.sbom)},
		{f.provenance != "", "*.attest=" + buildspec.CanonicalAttest(buildspec.AttestProvenance, f.provenance)},
	} {
		if o.on {
			all = append(all, o.text)
		}
	}
	return all, nil
}

// addEpoch gives every target the environment's SOURCE_DATE_EPOCH, as buildx does.
func addEpoch(def *bake.Definition) {
	const name = "SOURCE_DATE_EPOCH"
	epoch := os.Getenv(name)
	if epoch == "" {
		return
	}
	for _, t := range def.Targets {
		if _, ok := t.Args[name]; ok {
			continue
		}
		if t.Args == nil {
			t.Args = map[string]*string{}
		}
		t.Args[name] = &epoch
	}
}

// allowed checks that --allow grants what the targets need.
func (f *bakeFlags) allowed(def *bake.Definition) error {
	granted, err := bake.ParseGrants(f.allow)
	if err != nil {
		return err
	}
	granted.Add(def.Granted)
	granted.AllowDirectory(".")
	check, err := boolVariable("BUILDX_BAKE_ENTITLEMENTS_FS", true)
	if err != nil {
		return err
	}
	if !check {
		granted.AllowAllFiles()
	}
	missing, err := granted.Missing(def.Targets)
	if err != nil || len(missing) == 0 {
		return err
	}
	return fmt.Errorf("additional privileges requested: pass --allow=%s to grant them", strings.Join(missing, " --allow="))
}

func printIndented(app *command.App, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintln(app.Stdout, string(data))
	return nil
}
