package compose

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
)

// Environment has the variables that compose files use.
type Environment struct {
	// Vars take precedence over Environ, which is a list of "name=value". The file .env comes last.
	Vars    map[string]string
	Environ []string
	// Dir is the directory of .env, "" for the working directory.
	Dir string
}

// read returns the variables by name.
func (e Environment) read() (map[string]string, error) {
	environ := map[string]string{}
	for _, kv := range e.Environ {
		k, v, _ := strings.Cut(kv, "=")
		environ[k] = v
	}
	variables, err := e.readFile(environ)
	if err != nil {
		return nil, err
	}
	maps.Copy(variables, environ)
	maps.Copy(variables, e.Vars)
	return variables, nil
}

// readFile reads .env, whose values may refer to variables.
func (e Environment) readFile(environ map[string]string) (map[string]string, error) {
	name := filepath.Join(e.Dir, ".env")
	info, err := os.Stat(name)
	if exists := err == nil && !info.IsDir(); !exists {
		return map[string]string{}, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	variables, err := dotenv.UnmarshalBytesWithLookup(data, func(k string) (string, bool) {
		v, ok := environ[k]
		return v, ok
	})
	if err != nil {
		return nil, fmt.Errorf("read .env: %w", err)
	}
	return variables, nil
}
