package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/buildspec"
)

// files are compose.yaml and the files that are laid over it.
func files(texts ...string) []File {
	var list []File
	for i, text := range texts {
		list = append(list, File{Filename: fmt.Sprintf("compose%d.yaml", i), Content: []byte(text)})
	}
	return list
}

// one returns the only service of a file.
func one(t *testing.T, e Environment, text string) Service {
	t.Helper()
	services, err := e.Services(files(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(services) != 1 {
		t.Fatalf("%d services", len(services))
	}
	return services[0]
}

func TestServices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files []string
		want  string // name, and image in parentheses, of each service; "+" for one that is built
	}{
		"by name":           {[]string{"services: {b: {build: .}, a: {build: .}}"}, "a+ b+"},
		"images":            {[]string{"services: {a: {image: i}, b: {image: j, build: .}}"}, "a(i) b(j)+"},
		"dots":              {[]string{"services: {a.b: {build: .}}"}, "a.b+"},
		"merged":            {[]string{"services: {a: {build: .}}", "services: {a: {image: i}, b: {build: x}}"}, "a(i)+ b+"},
		"reset":             {[]string{"services: {a: {image: i, build: .}}", "services: {a: {build: !reset null}}"}, "a(i)"},
		"with profiles":     {[]string{"services: {a: {build: ., profiles: [p]}}"}, "a+"},
		"extended":          {[]string{"services: {a: {image: i, build: .}, b: {extends: a}}"}, "a(i)+ b(i)+"},
		"other keys":        {[]string{"name: p\nservices: {a: {build: ., ports: ['80:80'], depends_on: [b]}, b: {image: i}}\nnetworks: {n: {}}\nvolumes: {v: {}}"}, "a+ b(i)"},
		"unknown keys":      {[]string{"services: {a: {build: ., colour: red}}"}, "a+"},
		"no services":       {[]string{"secrets: {s: {file: f}}"}, ""},
		"anchors":           {[]string{"x-a: &a {context: .}\nservices: {a: {build: *a}, b: {build: {<<: *a, target: t}}}"}, "a+ b+"},
		"several documents": {[]string{"services: {a: {build: .}}\n---\nservices: {b: {build: .}}"}, "a+ b+"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			services, err := Environment{Dir: t.TempDir()}.Services(files(c.files...))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range services {
				text := s.Name
				if s.Image != "" {
					text += "(" + s.Image + ")"
				}
				if s.Build != nil {
					text += "+"
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestServicesErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, want string }{
		"empty":            {"", "empty compose file"},
		"nothing of ours":  {"networks: {n: {}}", "empty compose file"},
		"text":             {"services", "top-level object must be a mapping"},
		"build":            {"services: {a: {build: 1}}", "services.a.build"},
		"key of build":     {"services: {a: {build: {contexts: .}}}", "contexts"},
		"broken":           {"services: {", "yaml"},
		"variable":         {"services: {a: {image: '${'}}", "invalid interpolation format"},
		"required":         {"services: {a: {image: '${NO:?is needed}'}}", "is needed"},
		"neither":          {"services: {a: {}}", "neither an image nor a build context"},
		"external secret":  {"services: {a: {build: {context: ., secrets: [s]}}}\nsecrets: {s: {external: true, name: n}}", "service a: unsupported external secret n"},
		"undefined secret": {"services: {a: {build: {context: ., secrets: [s]}}}", "refers to undefined build secret s"},
		"type in x-bake":   {"services: {a: {build: {context: ., x-bake: {pull: maybe}}}}", "service a: x-bake: yaml: unmarshal errors"},
		"itself":           {"services: {a: {build: ., extends: a}}", "Circular reference"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Environment{Dir: t.TempDir()}.Services(files(c.file))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const valid, broken = "services: {a: {build: .}}", "services: {a: {build: 1}}"
	for name, c := range map[string]struct {
		file, text string
		want       bool
		err        bool
	}{
		"YAML":                {"compose.yaml", valid, true, false},
		"yml":                 {"COMPOSE.YML", valid, true, false},
		"YAML, broken":        {"x.yaml", broken, true, true},
		"HCL":                 {"x.hcl", valid, false, false},
		"JSON":                {"X.JSON", `{"services": {"a": {"build": "."}}}`, false, false},
		"no extension":        {"Bakefile", valid, true, false},
		"HCL, no extension":   {"Bakefile", `target "a" {}`, false, true},
		"another extension":   {"x.conf", valid, true, false},
		"service of a second": {"x.yaml", "services: {a: {image: i, depends_on: [b]}}", true, false},
		"an image's absence":  {"x.yaml", "services: {a: {environment: {A: b}}}", true, false},
		"nothing":             {"x.yaml", "", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Environment{Dir: t.TempDir()}.Check(File{Filename: c.file, Content: []byte(c.text)})
			if got != c.want || (err != nil) != c.err {
				t.Errorf("%t, %v", got, err)
			}
		})
	}
}

func TestArgs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "env"), []byte("A=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		service string
		want    map[string]string
	}{
		"none":               {"build: .", nil},
		"a map":              {"build: {context: ., args: {A: 1, B: 'x y', C: ''}}", map[string]string{"A": "1", "B": "x y", "C": ""}},
		"a list":             {"build: {context: ., args: [A=1, B=x=y]}", map[string]string{"A": "1", "B": "x=y"}},
		"of the environment": {"build: {context: ., args: {SET: }}", map[string]string{"SET": "environ"}},
		"of a list":          {"build: {context: ., args: [SET, UNSET]}", map[string]string{"SET": "environ"}},
		"of the service":     {"environment: {SET: service}\n    build: {context: ., args: {SET: }}", map[string]string{"SET": "service"}},
		"a null value":       {"environment: {SET: }\n    build: {context: ., args: {SET: }}", map[string]string{"SET": "environ"}},
		"interpolated":       {"build: {context: ., args: {A: '${SET}-${UNSET:-no}-$$SET'}}", map[string]string{"A": "environ-no-$SET"}},
		"of env_file":        {"env_file: " + filepath.Join(dir, "env") + "\n    build: {context: ., args: {A: }}", map[string]string{"A": "file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := Environment{Environ: []string{"SET=environ"}, Dir: t.TempDir()}
			s := one(t, e, "services:\n  a:\n    "+c.service+"\n")
			if len(s.Args) == 0 && len(c.want) == 0 {
				return
			}
			if diff := cmp.Diff(c.want, s.Args); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	s := one(t, Environment{Dir: t.TempDir()}, `
services:
  a:
    build:
      context: .
      secrets:
        - file
        - {source: variable, target: elsewhere}
secrets:
  file: {file: /etc/f}
  variable: {environment: V}
  other: {external: true}
`)
	want := []buildspec.Secret{{ID: "file", Src: "/etc/f"}, {ID: "variable", Env: "V"}}
	if diff := cmp.Diff(want, s.Secrets); diff != "" {
		t.Error(diff)
	}
}

func TestExtension(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for name, c := range map[string]struct {
		text string
		want Extension
	}{
		"nothing": {"{}", Extension{}},
		"lists": {
			"{tags: [a, b c], platforms: [linux/amd64], output: [type=docker], secret: ['id=a,src=b'], ssh: [default], no-cache-filter: [x]}",
			Extension{
				Tags: List{"a", "b c"}, Platforms: List{"linux/amd64"}, Outputs: List{"type=docker"}, Secrets: List{"id=a,src=b"}, SSH: List{"default"},
				NoCacheFilter: List{"x"},
			},
		},
		"texts":    {"{cache-from: 'a  b', cache-to: type=inline, tags: ''}", Extension{CacheFrom: List{"a", "b"}, CacheTo: List{"type=inline"}, Tags: List{}}},
		"numbers":  {"{tags: [1.0], no-cache-filter: 2}", Extension{Tags: List{"1"}, NoCacheFilter: List{"2"}}},
		"booleans": {"{pull: true, no-cache: false}", Extension{Pull: &yes, NoCache: &no}},
		"contexts": {"{contexts: {a: b}}", Extension{Contexts: map[string]string{"a": "b"}}},
		"unknown":  {"{colour: red}", Extension{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := one(t, Environment{Dir: t.TempDir()}, "services: {a: {build: {context: ., x-bake: "+c.text+"}}}")
			if diff := cmp.Diff(c.want, s.Extension); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestProjectName: ${COMPOSE_PROJECT_NAME} is "bake", unless the environment has another.
func TestProjectName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environ []string
		want    string
	}{
		"default":     {nil, "bake-x"},
		"environment": {[]string{"COMPOSE_PROJECT_NAME=p"}, "p-x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := one(t, Environment{Environ: c.environ, Dir: t.TempDir()}, "services: {a: {image: '${COMPOSE_PROJECT_NAME}-x', build: .}}")
			if s.Image != c.want {
				t.Errorf("%s, want %s", s.Image, c.want)
			}
		})
	}
}
