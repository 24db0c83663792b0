package attest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxEnvironment bounds a file of an environment, in bytes.
const maxEnvironment = 1 << 20

// reserved are the internal parameters of provenance that a build has of its own.
var reserved = []string{"buildConfig", "builderPlatform", "dockerfileVersion", "platform"}

// Environment reads what an operator says of a builder: the objects in the .json files of a directory, in the order of their names, a later
// value in place of an earlier one. A directory that does not exist has none.
func Environment(dir string) (map[string]any, error) {
	env := map[string]any{}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return env, nil
	}
	if err != nil {
		return nil, fmt.Errorf("provenance environment: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		name := filepath.Join(dir, e.Name())
		if err := readEnvironment(name, env); err != nil {
			return nil, fmt.Errorf("provenance environment: %s: %w", name, err)
		}
	}
	for _, k := range reserved {
		if _, ok := env[k]; ok {
			return nil, fmt.Errorf("provenance environment: %s: the key %q is reserved for the build itself", dir, k)
		}
	}
	return env, nil
}

func readEnvironment(name string, env map[string]any) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(f, maxEnvironment+1))
	if err != nil {
		return err
	}
	if len(raw) > maxEnvironment {
		return fmt.Errorf("it is larger than %d bytes", maxEnvironment)
	}
	return json.Unmarshal(raw, &env)
}
