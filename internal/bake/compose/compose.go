// Package compose reads what compose files say about builds (docs.docker.com/reference/compose-file/build): the services,
// their key build, and its extension x-bake. compose-go parses the files.
package compose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/consts"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/micabuild/mica/internal/buildspec"
)

// File is a compose file.
type File = types.ConfigFile

// Service is a service of compose files.
type Service struct {
	Name  string
	Image string
	// Build is nil for a service that is not built. The fields below are empty then.
	Build *types.BuildConfig
	// Args are the build arguments. One without a value in the file has that of the service's environment, or of compose's.
	Args      map[string]string
	Secrets   []buildspec.Secret
	Extension Extension
}

// Services merges files and returns their services by name.
func (e Environment) Services(files []File) ([]Service, error) {
	variables, err := e.read()
	if err != nil {
		return nil, err
	}
	project, err := load(files, variables, false)
	if err != nil {
		return nil, err
	}
	var services []Service
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		config := project.Services[name]
		s, err := newService(project, &config)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", config.Name, err)
		}
		services = append(services, s)
	}
	return services, nil
}

// Check reports whether a file is a compose file: by its name or, if that has no known extension, by its content. The error says
// why the file is not valid.
func (e Environment) Check(f File) (bool, error) {
	name := strings.ToLower(f.Filename)
	if strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".hcl") {
		return false, nil
	}
	variables, err := e.read()
	if err == nil {
		// Whether services are consistent shows when all files are merged.
		_, err = load([]File{{Content: f.Content}}, variables, true)
	}
	if strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml") {
		return true, err
	}
	return err == nil, err
}

// load parses files. A single file may refer to others.
func load(files []File, variables map[string]string, single bool) (*types.Project, error) {
	details := types.ConfigDetails{Environment: variables, ConfigFiles: files}
	raw, err := loader.LoadModelWithContext(context.Background(), details, func(opts *loader.Options) {
		name := "bake"
		if v := variables[consts.ComposeProjectName]; v != "" {
			name = v
		}
		opts.SetProjectName(name, false)
		opts.SkipNormalization = true
		opts.SkipValidation = true
		opts.SkipConsistencyCheck = single
	})
	if err != nil {
		return nil, err
	}
	model := buildModel(raw)
	if len(model) == 0 {
		return nil, errors.New("empty compose file")
	}
	if err := schema.Validate(model); err != nil {
		return nil, err
	}
	return loader.ModelToProject(model, loader.ToOptions(&details, []func(*loader.Options){func(opts *loader.Options) {
		opts.SkipNormalization = true
		opts.Profiles = []string{"*"}
		opts.SkipConsistencyCheck = single
	}}), details)
}

// buildKeys are the keys of a service that a build needs.
var buildKeys = []string{"image", "build", "environment", "env_file"}

// buildModel is the part of a compose file that builds need.
func buildModel(raw map[string]any) map[string]any {
	model := map[string]any{}
	if services, ok := raw["services"].(map[string]any); ok {
		kept := map[string]any{}
		for name, s := range services {
			all, _ := s.(map[string]any)
			service := map[string]any{}
			for _, key := range buildKeys {
				if v, ok := all[key]; ok {
					service[key] = v
				}
			}
			kept[name] = service
		}
		model["services"] = kept
	}
	if secrets, ok := raw["secrets"]; ok {
		model["secrets"] = secrets
	}
	return model
}

func newService(project *types.Project, config *types.ServiceConfig) (Service, error) {
	s := Service{Name: config.Name, Image: config.Image, Build: config.Build}
	if s.Build == nil {
		return s, nil
	}
	s.Args = buildArgs(project, config)
	for _, secret := range s.Build.Secrets {
		from := project.Secrets[secret.Source]
		if from.External {
			return s, fmt.Errorf("unsupported external secret %s", cmp.Or(from.Name, secret.Source))
		}
		s.Secrets = append(s.Secrets, buildspec.Secret{ID: secret.Source, Src: from.File, Env: from.Environment})
	}
	return s, s.Extension.read(s.Build.Extensions["x-bake"])
}

func buildArgs(project *types.Project, s *types.ServiceConfig) map[string]string {
	args := map[string]string{}
	for name, value := range s.Build.Args.Resolve(func(name string) (string, bool) {
		if v, ok := s.Environment[name]; ok && v != nil {
			return *v, true
		}
		v, ok := project.Environment[name]
		return v, ok
	}) {
		if value != nil {
			args[name] = *value
		}
	}
	return args
}
