// Package kanikocmd has the commands of Kaniko's images: the executor.
package kanikocmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/kaniko"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/version"
)

// Name is that of the command, and of the link to mica that runs it.
const Name = "executor"

// Args are the arguments of mica for the name by which it was started: a link to it that has the name of the executor is the executor.
func Args(args []string) []string {
	if len(args) > 0 && filepath.Base(args[0]) == Name {
		return append([]string{"mica", Name}, args[1:]...)
	}
	return args
}

// Build runs `mica build` with arguments. pushFailed decides about an error of the push of a name.
type Build func(ctx context.Context, app *command.App, args []string, pushFailed func(error) error) (*builder.Result, error)

// NewExecutorCommand is Kaniko's executor.
func NewExecutorCommand(app *command.App, build Build) *cobra.Command {
	e := &executor{app, kaniko.New(os.LookupEnv), build}
	cmd := &cobra.Command{
		Use:    Name + " [OPTIONS]",
		Short:  "Build an image with the flags of Kaniko's executor",
		Hidden: true,
		Args:   cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && args[0] == "version":
				fmt.Fprintf(app.Stdout, "mica version %s, with the flags of Kaniko's executor\n", version.String())
				return nil
			case len(args) > 0:
				return failed(fmt.Errorf("unknown command %q for %q", args[0], Name))
			}
			if err := e.Finish(); err != nil {
				return failed(err)
			}
			return failed(e.run(cmd.Context()))
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return failed(fmt.Errorf("%w\nRun '%s --help' for the flags", err, Name))
	})
	e.AddFlags(cmd.Flags())
	return cmd
}

// failed gives an error Kaniko's exit code: that of a RUN that has failed, else 1.
func failed(err error) error {
	var exit *gwpb.ExitError
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &exit) && exit.ExitCode > 0 && exit.ExitCode < 256:
		return &command.ExitError{Code: int(exit.ExitCode), Err: err}
	}
	return &command.ExitError{Code: 1, Err: err}
}

// executor is a build with Kaniko's flags.
type executor struct {
	app *command.App
	*kaniko.Options
	build Build
}

func (e *executor) run(ctx context.Context) (err error) {
	source, err := e.Source()
	if err != nil {
		return err
	}
	if err := e.open(ctx); err != nil {
		return err
	}
	dir, cleanup, err := openContext(ctx, e.app, source)
	if err != nil {
		return fmt.Errorf("build context: %w", err)
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	if dir, err = subdirectory(dir, e.ContextSubPath); err != nil {
		return err
	}
	dockerfile, err := findDockerfile(dir, e.Dockerfile)
	if err != nil {
		return err
	}
	res, err := e.build(ctx, e.app, e.Arguments(dir, dockerfile), e.pushFailed)
	if err != nil || res == nil {
		return err
	}
	return report(ctx, e.Options, res.Root.Digest.String())
}

// open opens the store, in Kaniko's directory if that is there, and the client of registries.
func (e *executor) open(ctx context.Context) error {
	if info, err := os.Stat(e.Dir); err == nil && info.IsDir() && os.Getenv("MICA_ROOT") == "" {
		e.app.SetRoot(filepath.Join(e.Dir, "store"))
	}
	if err := e.app.Open(ctx); err != nil {
		return err
	}
	for _, text := range e.Warnings() {
		e.app.Warn(text)
	}
	e.readCredentials()
	e.app.Client = registry.New(registry.Options{Docker: e.app.DockerConfig(), UserAgent: "mica/" + version.String(), Access: e.Access()})
	return nil
}

// pushFailed goes on with other destinations where a tag may stay as it is.
func (e *executor) pushFailed(err error) error {
	if !e.ImmutableTag(err) {
		return err
	}
	e.app.Warn("the registry keeps its tag: " + err.Error())
	return nil
}

// readCredentials reads the configuration of Docker in Kaniko's directory, and the credentials that GitLab gives its jobs.
func (e *executor) readCredentials() {
	dir := filepath.Join(e.Dir, ".docker")
	if _, err := os.Stat(filepath.Join(dir, config.ConfigFileName)); err == nil && (e.Dir != kaniko.DefaultDir || os.Getenv("DOCKER_CONFIG") == "") {
		config.SetDir(dir)
	}
	file := e.app.DockerConfig()
	for _, v := range []struct{ host, prefix string }{{"CI_REGISTRY", "CI_REGISTRY"}, {"CI_DEPENDENCY_PROXY_SERVER", "CI_DEPENDENCY_PROXY"}} {
		host, user, password := os.Getenv(v.host), os.Getenv(v.prefix+"_USER"), os.Getenv(v.prefix+"_PASSWORD")
		_, there := file.AuthConfigs[host]
		if host == "" || user == "" || password == "" || there || file.CredentialsStore != "" || file.CredentialHelpers[host] != "" {
			continue
		}
		if file.AuthConfigs == nil {
			file.AuthConfigs = map[string]types.AuthConfig{}
		}
		file.AuthConfigs[host] = types.AuthConfig{Username: user, Password: password, ServerAddress: host}
	}
}
