package bake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/consts"
	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/types"
)

// parseCompose makes a target of each service that is built, and the group default of them all.
func parseCompose(files []File, o Options) (*Config, error) {
	env, err := composeEnvironment(o)
	if err != nil {
		return nil, err
	}
	project, err := loadCompose(files, env, false)
	if err != nil {
		return nil, err
	}
	c := &Config{}
	group := &Group{Name: "default"}
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		s := project.Services[name]
		if s.Build == nil {
			continue
		}
		t, err := serviceTarget(project, &s)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
		c.Targets = append(c.Targets, t)
		group.Targets = append(group.Targets, t.Name)
	}
	if len(project.Services) > 0 {
		c.Groups = []*Group{group}
	}
	return c, nil
}

// checkCompose reports whether a file is a compose file: by its name or, if that has no known extension, by its content.
func checkCompose(f File, o Options) (bool, error) {
	name := strings.ToLower(f.Name)
	if strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".hcl") {
		return false, nil
	}
	env, err := composeEnvironment(o)
	if err == nil {
		// Whether services are consistent shows when all files are merged.
		_, err = loadCompose([]File{{Data: f.Data}}, env, true)
	}
	if strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml") {
		return true, err
	}
	return err == nil, err
}

// buildKeys are the keys of a service that a build needs.
var buildKeys = []string{"image", "build", "environment", "env_file"}

func loadCompose(files []File, env map[string]string, single bool) (*types.Project, error) {
	details := types.ConfigDetails{Environment: env}
	for _, f := range files {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: f.Name, Content: f.Data})
	}
	raw, err := loader.LoadModelWithContext(context.Background(), details, func(opts *loader.Options) {
		name := "bake"
		if v := env[consts.ComposeProjectName]; v != "" {
			name = v
		}
		opts.SetProjectName(name, false)
		opts.SkipNormalization = true
		opts.SkipValidation = true
		opts.SkipConsistencyCheck = single
	})
	if err != nil {
		return nil, composeError(err)
	}
	model := buildModel(raw)
	if len(model) == 0 {
		return nil, errors.New("empty compose file")
	}
	if err := schema.Validate(model); err != nil {
		return nil, composeError(err)
	}
	project, err := loader.ModelToProject(model, loader.ToOptions(&details, []func(*loader.Options){func(opts *loader.Options) {
		opts.SkipNormalization = true
		opts.Profiles = []string{"*"}
		opts.SkipConsistencyCheck = single
	}}), details)
	return project, composeError(err)
}

// composeError puts compose-go's errors into one line.
func composeError(err error) error {
	if err == nil || !strings.Contains(err.Error(), "\n") {
		return err
	}
	return errors.New(oneLine(err.Error()))
}

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

// composeEnvironment has the variables of compose files: --var, then the environment, then the file .env.
func composeEnvironment(o Options) (map[string]string, error) {
	env := map[string]string{}
	for _, kv := range o.Environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, ".env"))
	if info, statErr := os.Stat(filepath.Join(dir, ".env")); statErr != nil || info.IsDir() {
		data, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := dotenv.UnmarshalBytesWithLookup(data, func(k string) (string, bool) {
		v, ok := env[k]
		return v, ok
	})
	if err != nil {
		return nil, fmt.Errorf("read .env: %w", composeError(err))
	}
	maps.Copy(file, env)
	maps.Copy(file, o.Vars)
	return file, nil
}
