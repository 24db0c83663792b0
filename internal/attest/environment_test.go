package attest

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestEnvironment(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		files map[string]string
		want  map[string]any
		err   string
	}{
		"files":            {map[string]string{"a.json": `{"x":1,"y":"a"}`, "b.json": `{"y":["b"]}`, "c.txt": "no"}, map[string]any{"x": 1.0, "y": []any{"b"}}, ""},
		"no file":          {nil, map[string]any{}, ""},
		"not an object":    {map[string]string{"a.json": "[]"}, nil, "a.json: json:"},
		"of builds":        {map[string]string{"a.json": `{"buildConfig":{}}`}, nil, `the key "buildConfig" is reserved`},
		"version of build": {map[string]string{"a.json": `{"dockerfileVersion":"9"}`}, nil, `the key "dockerfileVersion" is reserved`},
		"too large":        {map[string]string{"a.json": `{"a":"` + strings.Repeat("a", maxEnvironment) + `"}`}, nil, "a.json: it is larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Environment(dir)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %s", err, test.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	if got, err := Environment(filepath.Join(t.TempDir(), "none")); err != nil || len(got) != 0 {
		t.Errorf("no directory: %v, %v", got, err)
	}
}

// Provenance has what the operator says of the builder, and the version of the compiler that is built in.
func TestProvenanceOfBuilder(t *testing.T) {
	t.Parallel()
	for frontend, version := range map[string]bool{DockerfileFrontend: true, "gateway.v0": false} {
		b := newBuild(t, Pin{}, source("local://context", nil))
		b.Frontend, b.Environment = frontend, map[string]any{"region": "eu"}
		internal := predicate(t, b, nil).BuildDefinition.InternalParameters
		if (internal.DockerfileVersion != "") != version || internal.ProvenanceCustomEnv["region"] != "eu" {
			t.Errorf("%s: %+v", frontend, internal)
		}
	}
}
