// Package runcmd is mica run: a process in the foreground, in a container that is removed when it ends.
package runcmd

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/cli/opts"
	"github.com/moby/sys/signal"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/containers"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/transfer"
)

// runFlags are the flags of docker run that have a meaning for a process in the foreground.
type runFlags struct {
	interactive, tty, readOnly, privileged, sigProxy, quiet            bool
	workdir, user, entrypoint, network, name, hostname, runtime        string
	stopSignal, pull, platform                                         string
	env, envFiles, volumes, tmpfs, capAdd, capDrop, addHosts, groupAdd []string
	stopTimeout                                                        int
	publish, expose                                                    []string
	publishAll                                                         bool
	entrypointSet                                                      bool
	limits                                                             runLimits
	init                                                               bool
	mounts                                                             opts.MountOpt
	shmSize                                                            opts.MemBytes
	dns                                                                runDNS
	isolation                                                          runIsolation
	devices                                                            runDevices
	labels                                                             runLabels
	refused                                                            runRefused
	cidFile                                                            string
}

// NewRunCommand is `mica run`.
func NewRunCommand(app *command.App) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE|BUILD:STEP [COMMAND] [ARG...]",
		Short: "Run a command in a new container, in the foreground; the container is removed when it ends",
		Long: "Run a command in a new container, in the foreground; the container is removed when it ends.\n\n" +
			"BUILD:STEP is the result of a step of an earlier build, in which a shell is run if there is no COMMAND. BUILD is a ref of `mica builds ls`, at\n" +
			"least 7 characters of it, or ^N for the Nth build before the newest. STEP is a line of the Dockerfile, or a part of the step's name.",
		Args:              command.RequireArgs(1, -1),
		ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.entrypointSet = cmd.Flags().Changed("entrypoint")
			return runRun(cmd.Context(), app, &f, args)
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func (f *runFlags) add(fl *pflag.FlagSet) {
	fl.SetInterspersed(false)
	fl.Bool("rm", true, "Automatically remove the container when it exits (mica always does)")
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "Keep STDIN open")
	fl.BoolVarP(&f.tty, "tty", "t", false, "Allocate a pseudo-TTY")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "Set environment variables")
	fl.StringArrayVar(&f.envFiles, "env-file", nil, "Read in a file of environment variables")
	fl.StringArrayVarP(&f.volumes, "volume", "v", nil, "Bind mount a volume (format: host-path:path[:ro])")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "Working directory inside the container")
	fl.StringVarP(&f.user, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	fl.StringArrayVar(&f.groupAdd, "group-add", nil, "Add additional groups to join")
	fl.StringVar(&f.entrypoint, "entrypoint", "", "Overwrite the default ENTRYPOINT of the image")
	f.addNetworkFlags(fl)
	f.limits.add(fl)
	f.dns.add(fl)
	f.isolation.add(fl)
	f.devices.add(fl)
	f.labels.add(fl)
	f.refused.add(fl)
	fl.StringVar(&f.cidFile, "cidfile", "", "Write the container ID to the file")
	fl.Var(&f.mounts, "mount", "Attach a filesystem mount to the container")
	fl.Var(&f.shmSize, "shm-size", "Size of /dev/shm")
	fl.BoolVar(&f.init, "init", false, "Run an init inside the container that forwards signals and reaps processes")
	fl.BoolVar(&f.readOnly, "read-only", false, "Mount the container's root filesystem as read only")
	fl.StringArrayVar(&f.tmpfs, "tmpfs", nil, "Mount a tmpfs directory (format: path[:options])")
	fl.StringArrayVar(&f.capAdd, "cap-add", nil, "Add Linux capabilities")
	fl.StringArrayVar(&f.capDrop, "cap-drop", nil, "Drop Linux capabilities")
	fl.StringArrayVar(&f.addHosts, "add-host", nil, "Add a custom host-to-IP mapping (host:ip)")
	fl.BoolVar(&f.privileged, "privileged", false, "Give extended privileges to this container")
	fl.StringVar(&f.name, "name", "", "Assign a name to the container: its hostname, where none is given")
	fl.StringVarP(&f.hostname, "hostname", "h", "", "Container host name")
	fl.StringVar(&f.stopSignal, "stop-signal", "", "Signal to stop the container")
	fl.IntVar(&f.stopTimeout, "stop-timeout", 10, "Seconds that the process has to end after SIGTERM, before it is killed; -1 for any time")
	fl.BoolVar(&f.sigProxy, "sig-proxy", true, "Proxy received signals to the process")
	fl.StringVar(&f.pull, "pull", "missing", `Pull image before running ("always", "missing", "never")`)
	fl.StringVar(&f.platform, "platform", "", "Set platform if the image has several")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Suppress the pull output")
	fl.StringVar(&f.runtime, "runtime", "", "OCI runtime to use (default: $MICA_RUNTIME, else crun, else runc)")
	fl.Bool("help", false, "Print usage")
}

// runRun runs a process and ends with its exit code; 125 for what goes wrong before, 126 and 127 as a shell.
func runRun(ctx context.Context, app *command.App, f *runFlags, args []string) error {
	err := f.run(ctx, app, args)
	var exit *ociruntime.ExitError
	var start *ociruntime.StartError
	var done *command.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &command.ExitError{Code: exit.Code}
	case errors.As(err, &start):
		return &command.ExitError{Code: start.Code, Err: command.Verbatim{Err: fmt.Errorf("mica: %w", err)}}
	case errors.As(err, &done):
		return err
	}
	return &command.ExitError{Code: 125, Err: command.Verbatim{Err: fmt.Errorf("mica: %w\n\nRun 'mica run --help' for more information", err)}}
}

func (f *runFlags) run(ctx context.Context, app *command.App, args []string) (err error) {
	if f.tty && f.interactive && !command.IsTerminal(app.Stdin) {
		return &command.ExitError{Code: 1, Err: errors.New("the input device is not a TTY")}
	}
	if err := f.check(); err != nil {
		return err
	}
	if err := f.limits.open(ctx, app); err != nil {
		return err
	}
	use, err := app.Store.Use(ctx)
	if err != nil {
		return err
	}
	// Until the process ends: a root filesystem of very many layers has some that no image names (layer.Layers.Lowers).
	defer func() { err = errors.Join(err, use.End()) }()
	of, err := f.subject(ctx, app, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, of.release()) }()
	img := of.image
	host, err := app.NewHost(f.runtime)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	if err := host.Refused(); err != nil {
		return err
	}
	if host.Plain() {
		return errors.New("isolation chroot runs the steps of builds alone: run needs user namespaces")
	}
	tmp, err := app.Store.TempDir("container")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tmp.Remove()) }()
	if mode, err := container.ParseNetwork(f.network); err == nil && mode == sandbox.NetworkOwn {
		host.StartNetwork()
	}
	id := containerID()
	p, err := f.process(ctx, app, img, args[1:], tmp.Path, id)
	if err != nil {
		return err
	}
	if err := f.prepareNetwork(ctx, app, img, p); err != nil {
		return err
	}
	if err := writeCIDFile(f.cidFile, id); err != nil {
		return err
	}
	app.PrintNotes()
	ctx, signals, done := f.forwardSignals(ctx, img)
	defer done()
	p.Signals = signals
	if of.shells != nil {
		return container.RunShell(ctx, host.Run, p, of.shells, "")
	}
	return host.Run(ctx, p)
}

// check refuses flags that cannot be followed, before anything is done.
func (f *runFlags) check() error {
	if f.stopSignal != "" {
		if _, err := signal.ParseSignal(f.stopSignal); err != nil {
			return fmt.Errorf("invalid signal: %s", f.stopSignal)
		}
	}
	for _, check := range []func() error{
		f.refused.check, f.labels.check, f.devices.check,
		func() error { return f.isolation.check(f) }, func() error { return checkCIDFile(f.cidFile) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// image finds the image, pulls it where that is to be done, and keeps it from being removed.
func (f *runFlags) image(ctx context.Context, app *command.App, ref string) (*image.Image, *store.Lock, error) {
	img, err := f.find(ctx, app, ref)
	if err != nil {
		return nil, nil, err
	}
	hold, err := app.Images.Hold(ctx, img)
	return img, hold, err
}

func (f *runFlags) find(ctx context.Context, app *command.App, ref string) (*image.Image, error) {
	var platform *ocispec.Platform
	if f.platform != "" {
		p, err := platforms.Parse(f.platform)
		if err != nil {
			return nil, fmt.Errorf("invalid platform %q: %w", f.platform, err)
		}
		p = platforms.Normalize(p)
		platform = &p
	}
	switch f.pull {
	case "missing", "never":
		img, err := app.Images.FindFor(ctx, ref, platform)
		if err == nil || f.pull == "never" || !image.IsMissing(err) {
			return img, err
		}
		fmt.Fprintf(app.Stderr, "Unable to find image '%s' locally\n", withTag(ref))
	case "always":
	default:
		return nil, fmt.Errorf("invalid pull option: '%s': must be one of \"always\", \"missing\" or \"never\"", f.pull)
	}
	name, err := command.RemoteName(ref)
	if err != nil {
		return nil, err
	}
	o := transfer.PullOptions{Unpack: true}
	if platform != nil {
		o.Platforms = []ocispec.Platform{*platform}
	}
	if err := app.Pull(ctx, app.Stderr, reference.TagNameOnly(name), o, f.quiet); err != nil {
		return nil, err
	}
	return app.Images.FindFor(ctx, ref, platform)
}

// withTag completes a name as docker shows it.
func withTag(ref string) string {
	name, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarString(reference.TagNameOnly(name))
}

// process returns the process that the flags and the image's config describe.
func (f *runFlags) process(ctx context.Context, app *command.App, img *image.Image, args []string, dir, id string) (*sandbox.Process, error) {
	config := img.Config.Config
	argv, err := container.Command(config.ImageConfig, f.newEntrypoint(), args)
	if err != nil {
		return nil, err
	}
	hostname := f.containerName(id[:shortID])
	environment := container.Environment{Image: config.Env, Files: f.envFiles, Set: f.env, Hostname: hostname, TTY: f.tty}
	env, err := environment.Variables()
	if err != nil {
		return nil, err
	}
	if f.workdir != "" && !filepath.IsAbs(f.workdir) {
		return nil, fmt.Errorf("the working directory %q is invalid, it needs to be an absolute path", f.workdir)
	}
	f.isolation.read()
	o := container.Options{
		Args: argv, Env: env, Cwd: cmp.Or(f.workdir, config.WorkingDir), User: cmp.Or(f.user, config.User), Groups: f.groupAdd, Hostname: hostname,
		Network: f.network, ExtraHosts: f.addHosts, Resolver: f.dns.resolver(), ReadOnlyRoot: f.readOnly, Init: f.init, TTY: f.tty,
		Privileged: f.privileged, CapAdd: f.capAdd, CapDrop: f.capDrop, ShmSize: f.shmSize.Value(), Isolation: f.isolation.Isolation,
		Resources: f.limits.set, Ulimits: f.limits.ulimits.GetList(), OOMScoreAdj: f.limits.oomScoreAdj, CgroupNS: f.limits.cgroupns,
		CgroupParent: f.limits.cgroupParent,
	}
	p, err := o.Process()
	if err != nil {
		return nil, err
	}
	p.Stdout, p.Stderr = app.Stdout.File(), app.Stderr.File()
	if f.interactive || f.tty {
		p.Stdin = app.Stdin
	}
	if p.Root, err = containers.Root(ctx, app.Layers, img.Chain(), dir); err != nil {
		return nil, err
	}
	if err := f.addMounts(ctx, app, img, p, dir); err != nil {
		return nil, err
	}
	return p, f.devices.Apply(p)
}

// shortID is how many digits of an ID are shown.
const shortID = 12

// containerID is what docker would call the container.
func containerID() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// newEntrypoint is --entrypoint: nil if it was not given.
func (f *runFlags) newEntrypoint() []string {
	switch {
	case !f.entrypointSet:
		return nil
	case f.entrypoint == "":
		return []string{}
	}
	return []string{f.entrypoint}
}
