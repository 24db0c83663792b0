package buildcmd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/bake"
	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/image"
)

func TestParseBakeList(t *testing.T) {
	t.Parallel()
	for s, c := range map[string]struct {
		want bakeList
		err  string
	}{
		"targets":                     {want: bakeList{kind: "targets"}},
		"variables":                   {want: bakeList{kind: "variables"}},
		"type=targets,format=json":    {want: bakeList{kind: "targets", json: true}},
		"Type=variables,format=table": {want: bakeList{kind: "variables"}},
		"groups":                      {err: `invalid list type "groups": use targets or variables`},
		"type=targets,format=xml":     {err: `invalid list format "xml": use table or json`},
		"type=targets,json":           {err: "invalid value json"},
		"type=targets,sort=name":      {err: "unexpected key 'sort' in 'sort=name'"},
	} {
		got, err := parseBakeList(s)
		if commandtest.Text(err) != c.err || err == nil && *got != c.want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
}

func TestBakeOverrides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags bakeFlags
		want  []string
		err   string
	}{
		"none":         {flags: bakeFlags{call: "build"}},
		"set":          {flags: bakeFlags{call: "build", set: []string{"a.tags=b"}}, want: []string{"a.tags=b"}},
		"push, load":   {flags: bakeFlags{call: "build", push: true, load: true}, want: []string{"*.push=true", "*.load=true"}},
		"check":        {flags: bakeFlags{call: "build", check: true}, want: []string{"*.call=lint"}},
		"cache":        {flags: bakeFlags{call: "build", setNoCache: true, setUpdate: true, pull: true}, want: []string{"*.no-cache=false", "*.pull=true"}},
		"attestations": {flags: bakeFlags{call: "build", sbom: "true", provenance: "mode=max"}, want: []string{"*.attest=type=sbom,disabled=false", "*.attest=type=provenance,mode=max"}},
		"call":         {flags: bakeFlags{call: "dance"}, err: `unknown call "dance": use build, check, outline or targets`},
	} {
		got, err := c.flags.overrides()
		if commandtest.Text(err) != c.err || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q, %q", name, got, err, c.want, c.err)
		}
	}
}

func TestBakeEnvironment(t *testing.T) {
	t.Setenv("BUILDX_BAKE_FILE", "a.hcl: cwd://b.hcl ::")
	if got, want := (&bakeFlags{}).names(), []string{"a.hcl", "cwd", "//b.hcl"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	t.Setenv("BUILDX_BAKE_PATH_SEPARATOR", "@")
	t.Setenv("BUILDX_BAKE_FILE", "a.hcl@cwd://b.hcl")
	if got, want := (&bakeFlags{}).names(), []string{"a.hcl", "b.hcl"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (&bakeFlags{files: []string{"c.hcl"}}).names(); !slices.Equal(got, []string{"c.hcl"}) {
		t.Errorf("flags come first: %q", got)
	}
	for value, want := range map[string]struct {
		on  bool
		err string
	}{
		"": {on: true}, "0": {}, "true": {on: true}, "x": {err: `failed to parse BOOL_VARIABLE value "x": use true or false`},
	} {
		t.Setenv("BOOL_VARIABLE", value)
		if on, err := boolVariable("BOOL_VARIABLE", true); commandtest.Text(err) != want.err || on != want.on {
			t.Errorf("%q: %t, %v", value, on, err)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "7")
	own := "1"
	def := &bake.Definition{Targets: map[string]*bake.Target{"a": {}, "b": {Args: map[string]*string{"SOURCE_DATE_EPOCH": &own}}}}
	addEpoch(def)
	if a, b := def.Targets["a"].Args["SOURCE_DATE_EPOCH"], def.Targets["b"].Args["SOURCE_DATE_EPOCH"]; *a != "7" || *b != "1" {
		t.Errorf("epochs %s and %s", *a, *b)
	}
}

// readBake resolves all targets of a file.
func readBake(t *testing.T, file string) *bake.Definition {
	t.Helper()
	def, err := bake.Read([]bake.File{{Name: "docker-bake.hcl", Data: []byte(file)}}, bake.Options{Targets: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	return def
}

func TestBakeTargets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		err  string
	}{
		"two":              {file: "target \"a\" {\n output = [\"-\"]\n}\ntarget \"b\" {}"},
		"both to stdout":   {file: "target \"a\" {\n output = [\"-\"]\n}\ntarget \"b\" {\n output = [\"type=oci\"]\n}", err: "targets a and b cannot both be written to stdout: give one of them a dest"},
		"a mistake":        {file: "target \"a\" {\n network = \"bridge\"\n}", err: `target a: network mode "bridge" is not supported: use default, host or none`},
		"a link to a call": {file: "target \"a\" {\n contexts = { b = \"target:b\" }\n}\ntarget \"b\" {\n call = \"check\"\n}", err: "target a needs the result of b, which is not built: it has call=check"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := (&bakeFlags{call: "build"}).targets(readBake(t, c.file))
			if commandtest.Text(err) != c.err {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}

// TestBakeLinks: contexts from targets have the names under which the front end looks them up, and calls need none.
func TestBakeLinks(t *testing.T) {
	t.Parallel()
	def := readBake(t, "target \"a\" {\n contexts = { \"docker.io/library/base:latest\" = \"target:b\" }\n}\ntarget \"b\" {}\ntarget \"c\" {\n contexts = { base = \"target:b\" }\n call = \"outline\"\n}")
	targets, err := (&bakeFlags{call: "build", hostCerts: true, proxyNetwork: true}).targets(def)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"base": "b"}, targets["a"].links); diff != "" {
		t.Error(diff)
	}
	if c := targets["c"]; len(c.links) > 0 || c.spec.Contexts["base"] != "docker-image://scratch" || !c.calls() || !anyCall(targets) {
		t.Errorf("links %v, contexts %v", c.links, c.spec.Contexts)
	}
	if !targets["a"].spec.HostCerts || !targets["a"].spec.ProxyNetwork || targets["a"].hidden {
		t.Errorf("%+v", targets["a"])
	}
}

func TestPrintResponse(t *testing.T) {
	t.Parallel()
	warning := `{"warnings":[{"ruleName":"R","description":"D","url":"https://u","detail":"E","location":{"sourceIndex":0,"ranges":[]}}],"sources":[{"filename":"Dockerfile","data":"Rk9P"}]}`
	for name, c := range map[string]struct {
		call     buildspec.Call
		response map[string]string
		want     string // is part of stdout
		code     int
		err      string
	}{
		"clean":         {call: buildspec.Call{Name: "lint"}, response: map[string]string{"result.json": `{}`}, want: "Check complete, no warnings found.\n"},
		"a warning":     {call: buildspec.Call{Name: "lint"}, response: map[string]string{"result.json": warning, "result.statuscode": "1"}, want: "Check complete, 1 warning has been found!\n", code: 1},
		"ignored":       {call: buildspec.Call{Name: "lint", IgnoreStatus: true}, response: map[string]string{"result.json": warning, "result.statuscode": "1"}, want: "WARNING: R - https://u\nE\n"},
		"JSON":          {call: buildspec.Call{Name: "lint", JSON: true}, response: map[string]string{"result.json": warning}, want: warning + "\n"},
		"targets":       {call: buildspec.Call{Name: "targets"}, response: map[string]string{"result.json": `{"targets":[{"name":"a","default":true}],"sources":[]}`}, want: "a (default)"},
		"outline":       {call: buildspec.Call{Name: "outline"}, response: map[string]string{"result.json": `{"name":"a","args":[{"name":"V","value":"1"}],"sources":[]}`}, want: "TARGET:"},
		"not a result":  {call: buildspec.Call{Name: "lint"}, response: map[string]string{"result.json": `x`}, err: "read the result of the check: invalid character 'x' looking for beginning of value"},
		"a parse error": {call: buildspec.Call{Name: "lint"}, response: map[string]string{"result.json": `{"buildError":{"message":"unknown instruction","location":{"sourceIndex":0,"ranges":[]}},"sources":[{"filename":"Dockerfile","data":"Rk9P"}]}`}, err: "unknown instruction"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, printed := commandtest.Output(t)
			response := map[string][]byte{}
			for k, v := range c.response {
				response[k] = []byte(v)
			}
			err := printResponse(&command.App{Stdout: stdout}, c.call, response)
			switch exit, ok := err.(*command.ExitError); { //nolint:errorlint // the error itself
			case c.code != 0 && (!ok || exit.Code != c.code), c.code == 0 && commandtest.Text(err) != c.err:
				t.Errorf("%v, want code %d or %q", err, c.code, c.err)
			}
			if got := printed(); !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestBuildMetadata(t *testing.T) {
	manifest := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("m"), Size: 1}
	img := &image.Image{ID: digest.FromString("c")}
	provenance := map[string]json.RawMessage{"": json.RawMessage(`{"buildType":"t","buildConfig":{},"metadata":{}}`)}
	for name, c := range map[string]struct {
		res  builder.Result
		mode string
		want []string // the keys
	}{
		"image": {
			res:  builder.Result{Image: img, Root: manifest, Written: true, Names: []string{"a", "b"}},
			want: []string{"buildx.build.ref", "containerimage.config.digest", "containerimage.descriptor", "containerimage.digest", "image.name"},
		},
		"index": {
			res:  builder.Result{Image: img, Root: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex}, Written: true},
			want: []string{"buildx.build.ref", "containerimage.descriptor", "containerimage.digest"},
		},
		"files":      {res: builder.Result{Image: img, Root: manifest}, want: []string{"buildx.build.ref"}},
		"provenance": {res: builder.Result{Provenance: provenance}, want: []string{"buildx.build.provenance", "buildx.build.ref"}},
		"call":       {res: builder.Result{Response: map[string][]byte{"result.json": []byte(`{"a":1}`), "version": []byte("1")}}, want: []string{"result.json", "version"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := buildMetadata(&c.res)
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for k := range m {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			if diff := cmp.Diff(c.want, keys); diff != "" {
				t.Error(diff)
			}
			if _, err := json.Marshal(m); err != nil {
				t.Error(err)
			}
		})
	}
	for value, want := range map[string]struct {
		mode string
		keys int
	}{"": {"min", 1}, "min": {"min", 1}, "max": {"max", 3}, "true": {"min", 1}, "false": {"", 3}, "disabled": {"", 3}} {
		t.Setenv("BUILDX_METADATA_PROVENANCE", value)
		m := metadata{}
		if err := m.addProvenance(provenance); err != nil || metadataProvenance() != want.mode {
			t.Errorf("%q: mode %q, %v", value, metadataProvenance(), err)
		}
		if got := m["buildx.build.provenance"].(map[string]json.RawMessage); len(got) != want.keys {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestCheckDirectoryOf(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"": "", file: "", "here": "", "/no/such/f": "--iidfile /no/such/f: no such directory: /no/such",
		file + "/f": "--iidfile " + file + "/f: " + file + " is not a directory",
	} {
		if err := checkDirectoryOf("iidfile", name); commandtest.Text(err) != want {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}
