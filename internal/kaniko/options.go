// Package kaniko is the grammar of Kaniko's executor: its flags and variables, and the options of `mica build` that they mean. It reads no
// file and builds nothing.
package kaniko

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// DefaultDir is Kaniko's own directory.
const DefaultDir = "/kaniko"

// Options are the flags of the executor (Kaniko's README, "Additional Flags"), of its last release and of its forks.
type Options struct {
	// What is built.
	Context, ContextSubPath, Bucket, Dockerfile, Platform string
	Targets, BuildArgs, Labels, Annotations, Secrets      []string
	Git                                                   Git

	// What is made of it.
	Destinations                                               []string
	NoPush, Reproducible, PushIgnoreImmutableTagErrors, DryRun bool
	TarPath, OCILayoutPath, Compression, ImageFormat           string
	DigestFile, ImageNameDigestFile, ImageNameTagDigestFile    string
	CompressionLevel                                           int
	Cache, NoPushCache, CacheRunLayers, SingleSnapshot         bool
	CacheRepo                                                  string
	CacheTTL                                                   time.Duration
	IgnorePaths                                                []string
	Registries                                                 Registries

	// How it is shown, and where the executor keeps its files.
	Verbosity, LogFormat, Dir string

	env func(string) (string, bool)
}

// New returns the options without flags. env looks up variables of the environment.
func New(env func(string) (string, bool)) *Options { return &Options{env: env} }

// AddFlags adds all flags of the executor. Those that say nothing to mica are accepted, and checked as Kaniko checks them.
func (o *Options) AddFlags(fl *pflag.FlagSet) {
	o.addSources(fl)
	o.addResults(fl)
	o.addCache(fl)
	o.Registries.addFlags(fl)
	fl.VarP(newChoice(&o.Verbosity, "info", "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"), "verbosity", "v", "Log level (trace, debug, info, warn, error, fatal, panic)")
	fl.Var(newChoice(&o.LogFormat, "color", "text", "color", "json"), "log-format", "Log format (text, color, json)")
	fl.StringVar(&o.Dir, "kaniko-dir", DefaultDir, "Directory of the executor; it comes before KANIKO_DIR")
	addUnused(fl)
}

func (o *Options) addSources(fl *pflag.FlagSet) {
	fl.StringVarP(&o.Dockerfile, "dockerfile", "f", "Dockerfile", "Path or URL of the Dockerfile")
	fl.StringVarP(&o.Context, "context", "c", "/workspace/", "Build context: a directory, dir://, tar://, git:// or https://")
	fl.StringVar(&o.ContextSubPath, "context-sub-path", "", "Directory within the context")
	fl.StringVarP(&o.Bucket, "bucket", "b", "", "Bucket with the context")
	fl.StringVar(&o.Platform, "custom-platform", "", "Platform to build for")
	fl.StringSliceVar(&o.Targets, "target", nil, "Stage to build")
	fl.Var(&list{&o.BuildArgs, nil}, "build-arg", "Build argument, NAME=VALUE or NAME for the variable of the environment (repeatable)")
	fl.Var(&list{&o.Labels, nil}, "label", "Label of the image (repeatable)")
	fl.Var(&list{&o.Annotations, keyValue}, "annotation", "Annotation of the manifest, KEY=VALUE (repeatable)")
	fl.Var(&list{&o.Secrets, keyValue}, "secret", "Secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME] (repeatable)")
	fl.Var(&o.Git, "git", "Options of a git context: branch=NAME, recurse-submodules=BOOL, single-branch=BOOL, depth=N")
}

func (o *Options) addResults(fl *pflag.FlagSet) {
	fl.VarP(&list{&o.Destinations, nil}, "destination", "d", "Name under which the image is pushed (repeatable)")
	fl.BoolVar(&o.NoPush, "no-push", false, "Do not push the image")
	fl.StringVar(&o.TarPath, "tar-path", "", "Archive to write the image to")
	fl.StringVar(&o.OCILayoutPath, "oci-layout-path", "", "Directory to write the image to as an OCI layout")
	fl.StringVar(&o.DigestFile, "digest-file", "", "File, or URL for a PUT, to write the image's digest to")
	fl.StringVar(&o.ImageNameDigestFile, "image-name-with-digest-file", "", "File to write NAME@DIGEST to")
	fl.StringVar(&o.ImageNameTagDigestFile, "image-name-tag-with-digest-file", "", "File to write NAME:TAG@DIGEST to")
	fl.Var(newChoice(&o.Compression, "", "gzip", "zstd"), "compression", "Compression of layers (gzip, zstd)")
	fl.IntVar(&o.CompressionLevel, "compression-level", -1, "Level of the compression")
	fl.Var(newChoice(&o.ImageFormat, "", "docker", "oci"), "image-format", "Media types of the image (docker, oci)")
	fl.BoolVar(&o.Reproducible, "reproducible", false, "Give the image and its new files the time 0")
	fl.BoolVar(&o.PushIgnoreImmutableTagErrors, "push-ignore-immutable-tag-errors", false, "Succeed if the registry refuses to replace a tag")
	fl.BoolVar(&o.DryRun, "dryrun", false, "Show which steps would run, and run none")
	fl.BoolVar(&o.SingleSnapshot, "single-snapshot", false, "Not used: each step keeps its layer")
	fl.Var(&list{&o.IgnorePaths, nil}, "ignore-path", "Not used: paths of the pod are never in the image (repeatable)")
	fl.StringVar(&o.TarPath, "tarPath", "", "Deprecated: --tar-path")
	fl.StringVar(&o.Platform, "customPlatform", "", "Deprecated: --custom-platform")
}

func (o *Options) addCache(fl *pflag.FlagSet) {
	fl.BoolVar(&o.Cache, "cache", false, "Use the cache")
	fl.StringVar(&o.CacheRepo, "cache-repo", "", "Repository of the cache, or oci:DIRECTORY (default: DESTINATION/cache)")
	fl.BoolVar(&o.NoPushCache, "no-push-cache", false, "Do not write the cache")
	fl.BoolVar(&o.CacheRunLayers, "cache-run-layers", true, "Cache the layers of RUN")
	fl.DurationVar(&o.CacheTTL, "cache-ttl", 14*24*time.Hour, "Age from which a cached layer is not used")
}

// addUnused adds the flags that have no meaning for mica: each is about how Kaniko unpacks images over its own root filesystem.
func addUnused(fl *pflag.FlagSet) {
	const none = "Accepted, without effect"
	for _, name := range []string{
		"cache-copy-layers", "cleanup", "pre-cleanup", "force", "force-build-metadata", "initial-fs-unpacked", "log-timestamp", "materialize",
		"preserve-context", "skip-unused-stages", "use-new-run",
	} {
		fl.Bool(name, false, none)
	}
	for _, name := range []string{"compressed-caching", "ignore-var-run", "whitelist-var-run"} {
		fl.Bool(name, true, none)
	}
	fl.Int("image-fs-extract-retry", 0, none)
	fl.String("cache-dir", "/cache", none)
	fl.Var(&list{new([]string), nil}, "credential-helpers", none)
	for _, name := range []string{"snapshot-mode", "snapshotMode"} {
		fl.Var(newChoice(new(string), "full", "full", "redo", "time"), name, none)
	}
}

// Finish reads Kaniko's variables and checks the flags, in Kaniko's words.
func (o *Options) Finish() error {
	if v, ok := o.env("KANIKO_NO_PUSH"); ok {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("invalid value %q for KANIKO_NO_PUSH environment variable", v)
		}
		o.NoPush = on
	}
	if err := o.Registries.finish(o.env); err != nil {
		return err
	}
	if v, ok := o.env("KANIKO_DIR"); ok && o.Dir == DefaultDir {
		o.Dir = cmp.Or(v, DefaultDir)
	}
	for i, arg := range o.BuildArgs {
		if !strings.Contains(arg, "=") {
			v, _ := o.env(arg)
			o.BuildArgs[i] = arg + "=" + v
		}
	}
	return errors.Join(o.checkDestinations(), o.checkFormat())
}

func (o *Options) checkDestinations() error {
	named := len(o.Destinations) > 0
	switch {
	case !o.NoPush && !named:
		return errors.New("you must provide --destination, or use --no-push")
	case o.Cache && o.NoPush && !o.NoPushCache && o.CacheRepo == "":
		return errors.New("cache flags invalid: if using cache with --no-push, specify cache repo with --cache-repo")
	case o.Context == "" && o.Bucket == "":
		return errors.New("please specify a path to the build context with the --context flag")
	case !named && o.ImageNameDigestFile != "":
		return errors.New("you must provide --destination if setting --image-name-with-digest-file")
	case !named && o.ImageNameTagDigestFile != "":
		return errors.New("you must provide --destination if setting --image-name-tag-with-digest-file")
	}
	for _, d := range o.Destinations {
		if _, err := parseName(d); err != nil {
			return fmt.Errorf("getting tag for destination: %w", err)
		}
	}
	return nil
}

func (o *Options) checkFormat() error {
	switch zstd := o.Compression == "zstd"; {
	case zstd && o.ImageFormat == "docker":
		return errors.New("--compression=zstd cannot be used with --image-format=docker, which has no such layers: use --image-format=oci")
	case zstd && o.TarPath != "":
		return errors.New("--compression=zstd cannot be used with --tar-path: use --oci-layout-path")
	case o.TarPath != "" && o.ImageFormat == "oci":
		return errors.New("--tar-path writes a Docker archive and cannot be used with --image-format=oci: use --oci-layout-path")
	}
	return nil
}

// Warnings are about flags that have no effect, but which would have changed the image that Kaniko makes.
func (o *Options) Warnings() []string {
	var list []string
	if o.SingleSnapshot {
		list = append(list, "--single-snapshot: each step keeps a layer of its own")
	}
	if len(o.IgnorePaths) > 0 {
		list = append(list, "--ignore-path: what steps write there is in the image")
	}
	if len(o.Targets) > 1 {
		list = append(list, "--target: only "+o.Targets[0]+" is built")
	}
	return list
}

// WantsDigest reports whether the digest of the image is written anywhere.
func (o *Options) WantsDigest() bool {
	_, images := o.env("BUILDER_OUTPUT")
	return images || slices.ContainsFunc([]string{o.DigestFile, o.ImageNameDigestFile, o.ImageNameTagDigestFile}, func(s string) bool { return s != "" })
}
