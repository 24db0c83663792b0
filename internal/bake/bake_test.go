package bake

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestPrint compares definitions with what `docker buildx bake --print` (0.36.1) prints of the same files.
func TestPrint(t *testing.T) {
	files, err := filepath.Glob("testdata/print/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		file, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { testPrint(t, file) })
	}
}

func testPrint(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	names, o := testOptions(t, a)
	found, err := ReadFiles(names, nil)
	if err != nil {
		t.Fatal(err)
	}
	def, err := Read(found, o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(def, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	want := &a.Files[len(a.Files)-1]
	if bytes.Equal(got, want.Data) {
		return
	}
	if *update {
		want.Data = got
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Error(cmp.Diff(string(want.Data), string(got)))
}

// testOptions goes to a directory with the files of an archive, and reads the command line in its comment.
func testOptions(t *testing.T, a *txtar.Archive) (names []string, o Options) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, f := range a.Files {
		if err := os.MkdirAll(filepath.Dir(f.Name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{}
	o.Vars, o.Defaults = map[string]string{}, map[string]string{"BAKE_CMD_CONTEXT": "cwd://", "BAKE_LOCAL_PLATFORM": "linux/amd64"}
	for line := range strings.Lines(string(a.Comment)) {
		if kv, ok := strings.CutPrefix(line, "env: "); ok {
			k, v, _ := strings.Cut(strings.TrimSpace(kv), "=")
			env[k] = v
			o.Environ = append(o.Environ, k+"="+v)
		}
		if args, ok := strings.CutPrefix(line, "args: "); ok {
			names = testArgs(strings.Fields(args), &o)
		}
	}
	o.FileRelative, _ = strconv.ParseBool(env["BUILDX_BAKE_FILE_RELATIVE_PATHS"])
	o.Env = func(k string) (string, bool) {
		v, ok := env[k]
		return v, ok
	}
	return names, o
}

func testArgs(args []string, o *Options) (names []string) {
	for len(args) > 0 {
		switch args[0] {
		case "-f":
			names = append(names, args[1])
		case "--set":
			o.Overrides = append(o.Overrides, args[1])
		case "--var":
			k, v, _ := strings.Cut(args[1], "=")
			o.Vars[k] = v
		default:
			o.Targets = append(o.Targets, args[0])
			args = args[1:]
			continue
		}
		args = args[2:]
	}
	return names
}

// read is the definition of one file, with overrides.
func read(text string, overrides ...string) (*Definition, error) {
	return Read([]File{{Name: "docker-bake.hcl", Data: []byte(text)}}, Options{Overrides: overrides})
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want string
	}{
		"broken":             {file: "target \"a\" {\n  tags = [\n}\n", want: "docker-bake.hcl:3,1-2: Invalid expression; Expected"},
		"not closed":         {file: `target "a" {`, want: "Unclosed configuration block"},
		"no text":            {file: "\x00\x01\xff{{{", want: "Invalid character"},
		"function":           {file: `target "default" { args = { a = nofunc("x") } }`, want: `There is no function named "nofunc"`},
		"variable":           {file: `target "default" { args = { a = NOPE } }`, want: `There is no variable named "NOPE"`},
		"target":             {file: `target "a" {}`, want: "failed to find target default"},
		"name":               {file: `target "a.b" {}`, want: `only "[a-zA-Z0-9_-]+" are allowed`},
		"inherits itself":    {file: `target "default" { inherits = ["b"] }` + "\n" + `target "b" { inherits = ["default"] }`, want: "target default inherits from itself: default → b → default"},
		"links in a loop":    {file: `target "default" { contexts = { x = "target:b" } }` + "\n" + `target "b" { contexts = { x = "target:default" } }`, want: "infinite loop from b to default"},
		"link to itself":     {file: `target "default" { contexts = { x = "target:default" } }`, want: "target default cannot link to itself"},
		"link to nothing":    {file: `target "default" { contexts = { x = "target:z" } }`, want: "failed to find target z"},
		"groups in a loop":   {file: `group "default" { targets = ["b"] }` + "\n" + `group "b" { targets = ["default"] }`, want: "failed to find target default"},
		"variables in loop":  {file: "variable \"A\" { default = B }\nvariable \"B\" { default = A }\ntarget \"default\" {}", want: "variable cycle not allowed"},
		"recursion":          {file: "function \"f\" {\n params = [x]\n result = f(x)\n}\ntarget \"default\" { args = { a = f(1) } }", want: "function cycle not allowed for f"},
		"null in a list":     {file: "target \"default\" {\n resources = null\n output = [null]\n}", want: "null value is not allowed"},
		"null as a type":     {file: "target \"default\" {\n output = [{type = null}]\n}", want: "type is required for output"},
		"null as a name":     {file: "target \"default\" {\n name = null\n matrix = { a = [\"x\"] }\n}", want: "name must be a string"},
		"null as a matrix":   {file: `target "default" { matrix = null }`, want: "matrix must be a map"},
		"null as an axis":    {file: `target "default" { matrix = { a = null } }`, want: "matrix values must be a list"},
		"matrix of a group":  {file: "group \"default\" {\n targets = []\n matrix = { a = [\"x\"] }\n}", want: "matrix is not supported for groups"},
		"matrix, one name":   {file: `target "default" { matrix = { a = ["x", "y"] } }`, want: `duplicate name "default"`},
		"name, no matrix":    {file: `target "default" { name = "x" }`, want: "name requires matrix"},
		"type of a value":    {file: `target "default" { tags = "a" }`, want: "list of string required"},
		"cache without type": {file: `target "default" { cache-from = ["ref=x"] }`, want: `type required for "ref=x"`},
		"secret":             {file: `target "default" { secret = ["foo=x"] }`, want: `unexpected key "foo": use id, src, env or type`},
		"limit":              {file: `target "default" { resources = { cpu-quota = 1.5 } }`, want: "invalid value 1.5"},
		"name of a group":    {file: "group \"default\" {\n targets = []\n name = \"x\"\n}", want: "name is not supported for groups"},
		"cache as an object": {file: `target "default" { cache-from = [{ ref = "x" }] }`, want: `type required for "type=,ref=x"`},
		"output as a text":   {file: `target "default" { output = "x" }`, want: "list of map of string required"},
		"output as a list":   {file: `target "default" { output = [["x"]] }`, want: "map of string required"},
		"attestation":        {file: `target "default" { attest = [{ type = "sbom", disabled = "x" }] }`, want: "invalid value disabled=x: neither true nor false"},
		"secret as a list":   {file: `target "default" { secret = [["x"]] }`, want: "object required"},
		"agent as a number":  {file: `target "default" { ssh = [1] }`, want: "object required"},
		"policy":             {file: `target "default" { policy = ["x"] }`, want: "invalid value x: expected key=value"},
		"limits as a text":   {file: `target "default" { resources = "x" }`, want: "object required"},
		"validation": {
			file: "variable \"A\" {\n default = 1\n validation {\n condition = A > 2\n error_message = \"too small\"\n }\n}\ntarget \"default\" {}",
			want: "Validation failed; too small",
		},
		"platforms of link": {file: "target \"default\" {\n contexts = { b = \"target:b\" }\n platforms = [\"linux/amd64\", \"linux/s390x\"]\n}\ntarget \"b\" { platforms = [\"linux/amd64\", \"linux/arm64\"] }", want: "are not a subset of"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(c.file)
			if err == nil {
				t.Fatalf("no error, want %q", c.want)
			}
			if got := err.Error(); !strings.Contains(got, c.want) || strings.ContainsAny(got, "\n\x00") {
				t.Errorf("error %q, want %q", got, c.want)
			}
		})
	}
}

// TestUnused: buildx passes over keys that a block cannot have, in silence.
func TestUnused(t *testing.T) {
	def, err := read(`
group "default" {
  targets = ["a"]
  platforms = ["linux/amd64"]
}
target "a" {
  inherits = ["b"]
  name = "a-${v}"
  matrix = { v = ["1", "2"] }
  tag = "x"
  targets = ["b"]
  more { x = 1 }
}
target "b" {
  targets = ["a"]
}
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range def.Unused {
		at, _, _ := strings.Cut(line, ";")
		got = append(got, at)
	}
	want := []string{
		"docker-bake.hcl:10,3-6: Unsupported argument", "docker-bake.hcl:11,3-10: Unsupported argument",
		"docker-bake.hcl:12,3-7: Unsupported block type", "docker-bake.hcl:15,3-10: Unsupported argument",
		"docker-bake.hcl:4,3-12: Unsupported argument",
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || len(def.Targets) != 2 {
		t.Errorf("unused are %q, want %q; targets %v", got, want, def.Targets)
	}
}

// FuzzRead looks for files that are neither read nor refused.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/print/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, one := range a.Files {
			f.Add(one.Name, one.Data)
		}
	}
	for name, text := range deep(50) {
		f.Add(name, []byte(text))
	}
	for _, text := range []string{
		`target "t" { platforms = ["local"] }`, `target "t" { targets = ["u"] }`, `target "t" { output = ["", "type=image,buildinfo=false", "type=registry,registry.insecure=true"] }`,
		`variable "v" { default = "${v}${v}" }`, "variable \"v\" {\n default = \"${w}${w}\"\n}\nvariable \"w\" {\n default = \"${x}${x}\"\n}\nvariable \"x\" {\n default = \"y\"\n}\n",
		"function \"f\" {\n params = [x]\n result = f(x)\n}\ntarget \"t\" {\n args = { a = f(1) }\n}\n", `target "t" { context = "http://user:pw@host/x" }`,
		"target \"t\" {\n name = \"a-${b}\"\n matrix = { b = range(3), c = [] }\n}\n", `target "../t" { inherits = ["../t"] }`, "target \"t\" {\n args = { a = format(\"%99d\", 1) }\n}\n",
	} {
		f.Add("docker-bake.hcl", []byte(text))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if strings.ContainsFunc(name, unicode.IsControl) {
			return // a name of two lines makes an error of two
		}
		def, err := Read([]File{{name, data}}, Options{})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			return
		}
		if _, err := json.Marshal(def); err != nil {
			t.Error(err)
		}
	})
}
