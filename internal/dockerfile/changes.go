package dockerfile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// changeInstructions are those that docker import and docker commit accept: they set the config and change no file.
var changeInstructions = []string{
	"cmd", "entrypoint", "env", "expose", "healthcheck", "label", "onbuild", "stopsignal", "user", "volume", "workdir",
}

// Config returns the config that Dockerfile instructions give an image that has none. The instructions are one text, as for
// docker import --change: one may continue in the next element.
func Config(ctx context.Context, changes []string, platform ocispec.Platform) (dockerspec.DockerOCIImageConfig, error) {
	none := dockerspec.DockerOCIImageConfig{}
	if len(changes) == 0 {
		return none, nil
	}
	text := []byte(strings.Join(changes, "\n"))
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return none, err
	}
	commands, err := changeCommands(parsed.AST)
	if err != nil {
		return none, err
	}
	if err := newMeter(parsed.EscapeToken, nil).dockerfile([]instructions.Stage{{Commands: commands}}, nil, origin{}); err != nil {
		return none, fmt.Errorf("line %d of the changes: %s", err.Line, err.reason)
	}
	place, err := checkCommands(commands, parsed.EscapeToken)
	if err != nil {
		return none, err
	}
	config, err := compileChanges(ctx, text, parsed.EscapeToken, platform)
	if err != nil {
		return none, err
	}
	config.Env = movePath(config.Env, place)
	if config.WorkingDir != "" { // a build leaves an absolute path as it is, import does not
		config.WorkingDir = path.Clean(config.WorkingDir)
	}
	config.ArgsEscaped = false //nolint:staticcheck // the compiler sets it still, import does not
	return config, nil
}

// changeCommands parses instructions, and refuses those that Docker does not allow.
func changeCommands(text *parser.Node) ([]instructions.Command, error) {
	for _, node := range text.Children {
		if !slices.Contains(changeInstructions, strings.ToLower(node.Value)) {
			return nil, fmt.Errorf("%s is not a valid change command", node.Value)
		}
	}
	var commands []instructions.Command
	for _, node := range text.Children {
		c, err := instructions.ParseCommand(node)
		if err != nil {
			return nil, err
		}
		commands = append(commands, c)
	}
	return commands, nil
}

// compileChanges compiles the instructions as a stage of an image that has nothing but an empty PATH, without which the
// compiler gives it one.
func compileChanges(ctx context.Context, text []byte, escape rune, platform ocispec.Platform) (none dockerspec.DockerOCIImageConfig, _ error) {
	base := dockerspec.DockerOCIImage{}
	base.Platform = platform
	base.Config.Env = []string{"PATH="}
	raw, err := json.Marshal(base)
	if err != nil {
		return none, err
	}
	dockerfile := fmt.Sprintf("# escape=%c\nFROM base\n%s\n", escape, bytes.TrimPrefix(text, []byte("\ufeff")))
	res, err := dockerfile2llb.Dockerfile2LLB(ctx, []byte(dockerfile), dockerfile2llb.ConvertOpt{TargetPlatform: &platform, MetaResolver: bareImage(raw)})
	if err != nil {
		return none, err
	}
	return res.Image.Config, nil
}

// bareImage is the config of every image.
type bareImage []byte

// ResolveImageConfig is that of llb.ImageMetaResolver.
func (b bareImage) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, "", b, nil
}

// checkCommands expands instructions for which the compiler differs from import: an empty WORKDIR is an error, and PATH is a
// variable like others. It returns how many variables are set before PATH; -1 if PATH is not set.
func checkCommands(commands []instructions.Command, escape rune) (int, error) {
	lex := shell.NewLex(escape)
	var env []string
	for _, c := range commands {
		known := shell.EnvsFromSlice(slices.Clone(env))
		expand := func(word string) (string, error) {
			word, _, err := lex.ProcessWord(word, known)
			return word, err
		}
		switch c := c.(type) {
		case *instructions.EnvCommand:
			if err := c.Expand(expand); err != nil {
				return 0, err
			}
			for _, kv := range c.Env {
				env = setEnv(env, kv.Key, kv.Value)
			}
		case *instructions.WorkdirCommand:
			if err := c.Expand(expand); err != nil {
				return 0, err
			}
			if c.Path == "" {
				return 0, fmt.Errorf("cannot normalize nothing: WORKDIR needs a path")
			}
		}
	}
	return slices.IndexFunc(env, isPath), nil
}

// setEnv sets a variable, in its place if it exists.
func setEnv(env []string, key, value string) []string {
	if i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, key+"=") }); i >= 0 {
		env[i] = key + "=" + value
		return env
	}
	return append(env, key+"="+value)
}

func isPath(e string) bool { return strings.HasPrefix(e, "PATH=") }

// movePath moves PATH, which is the first variable, to the place where it was set; -1 removes it.
func movePath(env []string, to int) []string {
	path, rest := env[0], env[1:]
	if to < 0 {
		return rest
	}
	return slices.Insert(rest, to, path)
}
