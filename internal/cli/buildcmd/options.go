package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/secrets/secretsprovider"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/hostfiles"
	"github.com/micabuild/mica/internal/sshagent"
)

// buildOptions checks a build against the host before it starts, and opens what it uses of the host.
func buildOptions(app *command.App, spec *buildspec.Spec) (*builder.Options, error) {
	if err := addEnvironment(app, spec); err != nil {
		return nil, err
	}
	o := &builder.Options{Spec: *spec, Create: func(dest string) (builder.Sink, error) { return app.Create(dest) }}
	if err := checkContexts(spec.Contexts); err != nil {
		return nil, err
	}
	if err := checkOutputs(app, spec); err != nil {
		return nil, err
	}
	var err error
	if o.Secret, err = openSecrets(spec.Secrets); err != nil {
		return nil, err
	}
	var agents []sshagent.Source
	for _, s := range spec.SSH {
		agents = append(agents, sshagent.Source{ID: s.ID, Paths: s.Paths, Raw: s.Raw})
	}
	opened, err := sshagent.New(agents)
	o.SSH = opened.Get
	return o, err
}

// addEnvironment adds what buildx takes from the environment and from docker's configuration file.
func addEnvironment(app *command.App, spec *buildspec.Spec) error {
	const epoch = "SOURCE_DATE_EPOCH"
	if v, ok := os.LookupEnv(epoch); ok {
		if _, given := spec.BuildArgs[epoch]; !given {
			spec.BuildArgs[epoch] = v
		}
	}
	if p := os.Getenv("DOCKER_DEFAULT_PLATFORM"); p != "" && len(spec.Platforms) == 0 {
		var err error
		if spec.Platforms, err = buildspec.ParsePlatforms([]string{p}); err != nil {
			return err
		}
	}
	addProxies(app, spec.BuildArgs)
	// An argument of BuildKit's own, which is also one for docker.
	if v, _ := strconv.ParseBool(spec.BuildArgs["BUILDKIT_INLINE_CACHE"]); v {
		spec.CacheTo = append(slices.Clone(spec.CacheTo), buildspec.Cache{Type: buildspec.CacheInline})
	}
	return nil
}

// addProxies adds the proxies of docker's configuration file to build arguments, as docker does. Those of the environment
// are not taken: an image's history shows the arguments that its Dockerfile declares.
func addProxies(app *command.App, args map[string]string) {
	for name, value := range app.DockerConfig().ParseProxyConfig("default", nil) {
		if _, set := args[name]; !set && value != nil {
			args[name] = *value
		}
	}
}

// checkContexts checks that named contexts of the host are directories.
func checkContexts(contexts map[string]string) error {
	for name, value := range contexts {
		if buildspec.IsRemote(value) {
			continue
		}
		info, err := os.Stat(value)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is not a directory", value)
		}
		if err != nil {
			return fmt.Errorf("failed to get build context %s: %w", name, err)
		}
	}
	return nil
}

// openSecrets returns what reads a secret when a step asks for it.
func openSecrets(list []buildspec.Secret) (func(context.Context, string) ([]byte, error), error) {
	var sources []secretsprovider.Source
	for _, s := range list {
		sources = append(sources, secretsprovider.Source{ID: s.ID, FilePath: s.Src, Env: s.Env})
	}
	store, err := secretsprovider.NewStore(sources)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	return func(ctx context.Context, id string) (data []byte, err error) {
		err = hostfiles.With(ctx, func() error {
			data, err = store.GetSecret(ctx, id)
			return err
		})
		if errors.Is(err, secrets.ErrNotFound) {
			return nil, fs.ErrNotExist
		}
		if err == nil && len(data) > secretsprovider.MaxSecretSize {
			return nil, fmt.Errorf("it has %d bytes: a secret has at most %d", len(data), secretsprovider.MaxSecretSize)
		}
		return data, err
	}, nil
}

// checkOutputs checks destinations, and warns of attributes that are not used: better before a long build than after.
func checkOutputs(app *command.App, spec *buildspec.Spec) error {
	for _, o := range spec.Outputs {
		for _, unused := range o.Unused {
			fmt.Fprintf(app.Stderr, "WARNING: %s: it is not used\n", unused)
		}
		switch {
		case o.Delete && !spec.AllowDelete:
			if err := checkDelete(o.Dest); err != nil {
				return err
			}
		case o.Directory || o.Type == buildspec.OutputImage || o.Type == buildspec.OutputNone:
		default:
			dir := filepath.Dir(o.Dest)
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				return fmt.Errorf("destination %s: no such directory", dir)
			}
		}
	}
	return nil
}

// checkDelete refuses mode=delete outside of the working directory, and for that itself: the files there need not be those of
// a build.
func checkDelete(dest string) error {
	dir, err := realPath(".")
	if err != nil {
		return err
	}
	real, err := realPath(dest)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(real, strings.TrimSuffix(dir, "/")+"/") {
		return fmt.Errorf("output to %s with mode=delete removes files outside of the working directory: pass --allow %s to permit it", dest, buildspec.LocalDelete)
	}
	return nil
}

// realPath is a path without symlinks, whose end need not exist.
func realPath(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, os.ErrNotExist) {
		if real, err = realPath(filepath.Dir(abs)); err == nil {
			real = filepath.Join(real, filepath.Base(abs))
		}
	}
	return real, err
}
