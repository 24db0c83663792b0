package bake

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// environment is one that has the given variables.
func environment(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := variables[name]
		return v, ok
	}
}

// evaluated is the build argument V of the target default of a file.
func evaluated(file string, env, vars map[string]string) (string, error) {
	def, err := Read([]File{{"docker-bake.hcl", []byte(file)}}, Options{
		Env: environment(env), Vars: vars, Defaults: map[string]string{"BAKE_CMD_CONTEXT": "cwd://"},
	})
	if err != nil {
		return "", err
	}
	v := def.Targets["default"].Args["V"]
	if v == nil {
		return "null", nil
	}
	return *v, nil
}

func TestVariables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file      string // before the target
		value     string // of the argument V
		env, vars map[string]string
		want      string
	}{
		"default":               {file: `variable "A" { default = "a" }`, value: "A", want: "a"},
		"environment":           {file: `variable "A" { default = "a" }`, value: "A", env: map[string]string{"A": "env"}, want: "env"},
		"empty environment":     {file: `variable "A" { default = "a" }`, value: "A", env: map[string]string{"A": ""}, want: ""},
		"--var":                 {file: `variable "A" { default = "a" }`, value: "A", env: map[string]string{"A": "env"}, vars: map[string]string{"A": "var"}, want: "var"},
		"undeclared":            {value: `"x"`, env: map[string]string{"A": "env"}, want: "x"},
		"built in":              {value: "BAKE_CMD_CONTEXT", want: "cwd://"},
		"built in, environment": {value: "BAKE_CMD_CONTEXT", env: map[string]string{"BAKE_CMD_CONTEXT": "env"}, want: "cwd://"},
		"built in, declared":    {file: `variable "BAKE_CMD_CONTEXT" { default = "own" }`, value: "BAKE_CMD_CONTEXT", want: "cwd://"},
		"no default":            {file: `variable "A" {}`, value: "A", want: ""},
		"null":                  {file: `variable "A" { default = null }`, value: "A", want: "null"},
		"null, chosen":          {file: `variable "A" { default = null }`, value: `A == null ? "none" : A`, want: "none"},
		"of another":            {file: "variable \"A\" { default = \"${B}-a\" }\nvariable \"B\" { default = \"b\" }", value: "A", want: "b-a"},
		"of another, set":       {file: "variable \"A\" { default = \"${B}-a\" }\nvariable \"B\" { default = \"b\" }", value: "A", vars: map[string]string{"B": "c"}, want: "c-a"},
		"attribute":             {file: `A = "a"`, value: "A", want: "a"},
		"attribute, env":        {file: `A = "a"`, value: "A", env: map[string]string{"A": "env"}, want: "a"},
		"number":                {file: `variable "A" { default = 1 }`, value: "A + 1", env: map[string]string{"A": "41"}, want: "42"},
		"fraction":              {file: `variable "A" { default = 1 }`, value: "A * 2", env: map[string]string{"A": "1.5"}, want: "3"},
		"boolean":               {file: `variable "A" { default = false }`, value: `A ? "on" : "off"`, env: map[string]string{"A": "1"}, want: "on"},
		"string":                {file: "variable \"A\" {\n type = string\n}", value: "A", env: map[string]string{"A": "1"}, want: "1"},
		"typed number":          {file: "variable \"A\" {\n type = number\n default = 3\n}", value: "A + 1", want: "4"},
		"typed boolean":         {file: "variable \"A\" {\n type = bool\n default = true\n}", value: `!A ? "no" : "yes"`, env: map[string]string{"A": "false"}, want: "no"},
		"list":                  {file: "variable \"A\" {\n type = list(string)\n default = [\"a\"]\n}", value: `join("|", A)`, env: map[string]string{"A": "x,y"}, want: "x|y"},
		"list, quoted":          {file: "variable \"A\" {\n type = list(string)\n}", value: `join("|", A)`, env: map[string]string{"A": `"x,y",z`}, want: "x,y|z"},
		"list of numbers":       {file: "variable \"A\" {\n type = list(number)\n}", value: "A[0] + A[1]", env: map[string]string{"A": "1,2"}, want: "3"},
		"set":                   {file: "variable \"A\" {\n type = set(string)\n}", value: `join("|", sort(A))`, env: map[string]string{"A": "b,a,b"}, want: "a|b"},
		"map":                   {file: "variable \"A\" {\n type = map(string)\n}", value: `"${A.x}${A["y"]}"`, env: map[string]string{"A": "x:1,y:2"}, want: "12"},
		"tuple":                 {file: "variable \"A\" {\n type = tuple([string, number])\n}", value: `"${A[0]}${A[1] + 1}"`, env: map[string]string{"A": "x,1"}, want: "x2"},
		"object by JSON":        {file: "variable \"A\" {\n type = object({a = string, b = number})\n}", value: `"${A.a}${A.b + 1}"`, env: map[string]string{"A_JSON": `{"a": "x", "b": 1}`}, want: "x2"},
		"list by JSON":          {file: "variable \"A\" {\n type = list(string)\n}", value: `join("|", A)`, env: map[string]string{"A_JSON": `["x", "y"]`, "A": "no"}, want: "x|y"},
		"JSON, declared":        {file: "variable \"A\" {\n type = list(string)\n default = [\"a\"]\n}\nvariable \"A_JSON\" {}", value: `join("|", A)`, env: map[string]string{"A_JSON": `["x"]`}, want: "a"},
		"optional":              {file: "variable \"A\" {\n type = object({a = string, b = optional(string)})\n default = {a = \"x\"}\n}", value: `"${A.a}${A.b == null}"`, want: "xtrue"},
		"typed, null":           {file: "variable \"A\" {\n type = number\n default = null\n}", value: `A == null ? "none" : "some"`, want: "none"},
		"typed, no default":     {file: "variable \"A\" {\n type = list(string)\n}", value: `A == null ? "none" : "some"`, want: "none"},
		"any":                   {file: "variable \"A\" {\n type = any\n default = [1, 2]\n}", value: "length(A)", want: "2"},
		"valid": {
			file:  "variable \"A\" {\n default = \"abc\"\n validation {\n condition = strlen(A) == 3\n error_message = \"three\"\n }\n validation {\n condition = A != \"\"\n error_message = \"some\"\n }\n}",
			value: "A", env: map[string]string{"A": "xyz"}, want: "xyz",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := evaluated(c.file+"\ntarget \"default\" {\n args = { V = "+c.value+" }\n}\n", c.env, c.vars)
			if err != nil || got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestVariableErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		env  map[string]string
		want string
	}{
		"number": {"variable \"A\" { default = 1 }\ntarget \"default\" {\n args = { V = A }\n}", map[string]string{"A": "x"}, "failed to parse A as number"},
		"bool":   {"variable \"A\" { default = true }\ntarget \"default\" {\n args = { V = A }\n}", map[string]string{"A": "x"}, "failed to parse A as bool"},
		"list":   {"variable \"A\" {\n type = list(number)\n}\ntarget \"default\" {\n args = { V = A[0] }\n}", map[string]string{"A": "x"}, "failed to parse element of type list of number"},
		"object": {"variable \"A\" {\n type = object({a = string})\n}\ntarget \"default\" {\n args = { V = A.a }\n}", map[string]string{"A": "x"}, "unsupported type object"},
		"default of another type": {
			"variable \"A\" {\n type = number\n default = \"x\"\n}\ntarget \"default\" {\n args = { V = A }\n}", nil, "a number is required",
		},
		"type": {"variable \"A\" {\n type = strange\n}\ntarget \"default\" {\n args = { V = A }\n}", nil, `The keyword "strange" is not a valid type specification`},
		"JSON": {"variable \"A\" {\n type = list(string)\n}\ntarget \"default\" {\n args = { V = A[0] }\n}", map[string]string{"A_JSON": "["}, "failed to convert variable A from JSON"},
		"validation": {
			"variable \"A\" {\n default = \"x\"\n validation {\n condition = A == \"x\"\n error_message = \"A is ${A}\"\n }\n}\ntarget \"default\" {}",
			map[string]string{"A": "y"}, "Validation failed; A is y",
		},
		"validation of another": {
			"variable \"A\" { default = 1 }\nvariable \"B\" {\n default = 2\n validation {\n condition = B > A\n error_message = \"B is small\"\n }\n}\ntarget \"default\" {}",
			map[string]string{"A": "3"}, "Validation failed; B is small",
		},
		"two variables": {"variable \"A\" { default = 1 }\nvariable \"A\" { default = 2 }\ntarget \"default\" {\n args = { V = A }\n}", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := evaluated(c.file, c.env, nil)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestExpressions(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`upper("a")`:                             "A",
		`"${1 + 2 * 3}"`:                         "7",
		`1 > 2 ? "a" : "b"`:                      "b",
		`true && !false`:                         "true",
		`"a" == "a"`:                             "true",
		`7 % 4`:                                  "3",
		`"$${A} %%{B}"`:                          "${A} %{B}",
		`"%{ if true }yes%{ else }no%{ endif }"`: "yes",
		`"%{ for x in [1, 2] }<${x}>%{ endfor }"`:                 "<1><2>",
		`join(",", [for x in ["b", "a"] : upper(x) if x != "b"])`: "A",
		`join(",", [for k, v in { a = 1, b = 2 } : "${k}${v}"])`:  "a1,b2",
		`{ for x in ["a", "b"] : x => upper(x) }["b"]`:            "B",
		`join("", [{ n = "x" }, { n = "y" }][*].n)`:               "xy",
		`concat(["a"], ["b"])[1]`:                                 "b",
		`lookup({ a = "1" }, "b", "none")`:                        "none",
		`merge({ a = "1" }, { a = "2" }).a`:                       "2",
		`coalesce(null, "b")`:                                     "b",
		`trimprefix("v1.2", "v")`:                                 "1.2",
		`substr("hello", 1, 3)`:                                   "ell",
		`split(",", "a,b")[1]`:                                    "b",
		`replace("a.b.c", ".", "-")`:                              "a-b-c",
		`regexall("[0-9]+", "a1b22")[1]`:                          "22",
		`formatdate("YYYY", "2024-03-01T00:00:00Z")`:              "2024",
		`timeadd("2024-01-01T00:00:00Z", "24h")`:                  "2024-01-02T00:00:00Z",
		`basename("/a/b.c")`:                                      "b.c",
		`sanitize("a/b:c")`:                                       "a_b_c",
		`jsondecode("{\"a\": [1, 2]}").a[1]`:                      "2",
		`csvdecode("a,b\n1,2")[0].b`:                              "2",
		`base64decode("aGk=")`:                                    "hi",
		`urlencode("a b/c")`:                                      "a+b%2Fc",
		`sha256("")`:                                              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		`md5("")`:                                                 "d41d8cd98f00b204e9800998ecf8427e",
		`indexof(["a", "b"], "b")`:                                "1",
		`contains(["a"], "b")`:                                    "false",
		`distinct(["a", "a"])[0]`:                                 "a",
		`setproduct(["a"], ["b", "c"])[1][1]`:                     "c",
		`semvercmp("1.10.0", "> 1.9.0")`:                          "true",
		`max(1, 3, 2)`:                                            "3",
		`strlen("äb")`:                                            "2",
		`title("ab cd")`:                                          "Ab Cd",
		`try(nothing.x, "fallback")`:                              "fallback",
		`can(parseint("x", 10))`:                                  "false",
		`uuidv5("dns", "example.org")`:                            "aad03681-8b63-5304-89e0-8ca8f49461b5",
	} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			got, err := evaluated("target \"default\" {\n args = { V = "+value+" }\n}\n", nil, nil)
			if err != nil || got != want {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		})
	}
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, value, want string }{
		"none":         {"function \"f\" {\n params = []\n result = \"x\"\n}", "f()", "x"},
		"two":          {"function \"f\" {\n params = [a, b]\n result = \"${a}-${b}\"\n}", `f("x", 1)`, "x-1"},
		"variadic":     {"function \"f\" {\n params = [a]\n variadic_params = rest\n result = \"${a}:${join(\",\", rest)}\"\n}", `f("x", "y", "z")`, "x:y,z"},
		"of variables": {"variable \"A\" { default = \"a\" }\nfunction \"f\" {\n params = [x]\n result = \"${A}${x}\"\n}", `f("b")`, "ab"},
		"of functions": {"function \"f\" {\n params = [x]\n result = g(g(x))\n}\nfunction \"g\" {\n params = [x]\n result = x * 2\n}", "f(3)", "12"},
		"in variables": {"function \"f\" {\n params = [x]\n result = upper(x)\n}\nvariable \"A\" { default = f(\"a\") }", "A", "A"},
		"conditional":  {"function \"f\" {\n params = [x]\n result = equal(x, \"\") ? [] : [x]\n}", `length(f(""))`, "0"},
		"local names":  {"variable \"x\" { default = \"global\" }\nfunction \"f\" {\n params = [x]\n result = x\n}", `"${f("local")} ${x}"`, "local global"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := evaluated(c.file+"\ntarget \"default\" {\n args = { V = "+c.value+" }\n}\n", nil, nil)
			if err != nil || got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestReferences: an expression may use the attributes of other targets, but not in a circle.
func TestReferences(t *testing.T) {
	t.Parallel()
	const other = `
target "other" {
  args = { A = "arg" }
  annotations = ["a=b"]
  attest = ["type=sbom", "type=provenance,mode=max"]
  cache-to = ["type=inline"]
  context = "dir"
  contexts = { c = "named" }
  no-cache = true
  platforms = ["linux/arm64"]
  policy = ["filename=p"]
  resources = { memory = "1g", cpu-quota = 5 }
  secret = ["id=s,src=f"]
  ssh = ["k=a,b"]
  output = ["type=image"]
  tags = ["x", "y"]
}
`
	for value, want := range map[string]string{
		"target.other.args.A":                  "arg",
		"target.other.annotations[0]":          "a=b",
		"target.other.attest[1].mode":          "max",
		"target.other.cache-to[0].type":        "inline",
		"target.other.context":                 "dir",
		"target.other.contexts.c":              "named",
		"target.other.no-cache":                "true",
		"target.other.platforms[0]":            "linux/arm64",
		"target.other.policy[0].filename":      "p",
		"target.other.resources.memory":        "1g",
		"target.other.resources.cpu-quota + 1": "6",
		"target.other.secret[0].src":           "f",
		"target.other.ssh[0].paths[1]":         "b",
		"target.other.output[0].type":          "image",
		"target.other.output[0].dest":          "",
		`join("", target.other.tags)`:          "xy",
		"length(target.other.cache-from)":      "0",
	} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			got, err := evaluated(other+"target \"default\" {\n args = { V = "+value+" }\n}\n", nil, nil)
			if err != nil || got != want {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		})
	}
	_, err := evaluated("target \"default\" {\n context = target.b.context\n}\ntarget \"b\" {\n context = target.default.context\n}\n", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "cycle not allowed") {
		t.Error(err)
	}
}

func TestMatrix(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		block string // of the target t
		want  map[string]string
		err   string
	}{
		"one":        {block: `matrix = { x = ["a"] }` + "\n target = x", want: map[string]string{"t": "a"}},
		"named":      {block: `matrix = { x = ["a", "b"] }` + "\n name = \"t-${x}\"\n target = x", want: map[string]string{"t-a": "a", "t-b": "b"}},
		"two axes":   {block: `matrix = { x = ["a", "b"], y = [1, 2] }` + "\n name = \"${x}${y}\"\n target = \"${y}${x}\"", want: map[string]string{"a1": "1a", "a2": "2a", "b1": "1b", "b2": "2b"}},
		"empty":      {block: "matrix = {}\n target = \"x\"", want: map[string]string{"t": "x"}},
		"empty axis": {block: `matrix = { x = [] }` + "\n target = x", err: "failed to find target t"},
		"objects":    {block: `matrix = { x = [{ n = "a", v = "1" }] }` + "\n name = \"t-${x.n}\"\n target = x.v", want: map[string]string{"t-a": "1"}},
		"numbers":    {block: `matrix = { x = range(3) }` + "\n name = \"t${x}\"\n target = x + 1", want: map[string]string{"t0": "1", "t1": "2", "t2": "3"}},
		"variable":   {block: `matrix = { x = LIST }` + "\n name = \"t-${x}\"\n target = x", want: map[string]string{"t-p": "p", "t-q": "q"}},
		"of a map":   {block: `matrix = { x = { k = "v" } }` + "\n target = x", want: map[string]string{"t": "v"}},
		"invalid":    {block: `matrix = { x = ["a.b"] }` + "\n name = x", err: `only "[a-zA-Z0-9_-]+" are allowed`},
		"a text":     {block: `matrix = { x = "a" }`, err: "matrix values must be a list"},
		"a list":     {block: `matrix = ["a"]`, err: "matrix must be a map"},
		"unknown":    {block: "matrix = { x = [NOPE] }", err: `There is no variable named "NOPE"`},
		"name":       {block: `matrix = { x = ["a"] }` + "\n name = NOPE", err: `There is no variable named "NOPE"`},
		"an object":  {block: `matrix = { x = ["a"] }` + "\n name = { a = x }", err: "string required"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := "variable \"LIST\" {\n default = [\"p\", \"q\"]\n}\ntarget \"t\" {\n" + c.block + "\n}\n"
			def, err := Read([]File{{"docker-bake.hcl", []byte(file)}}, Options{Targets: []string{"t"}})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for name, target := range def.Targets {
				got[name] = *target.Target
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestGroups: who asks for groups and targets gets each target once, and the groups that lead to it.
func TestGroups(t *testing.T) {
	t.Parallel()
	const file = `
group "default" { targets = ["a"] }
group "all" { targets = ["inner", "b"] }
group "inner" { targets = ["a", "c"] }
group "b" { targets = ["b", "a"] }
group "empty" { targets = [] }
target "a" {}
target "b" {}
target "c" {}
target "_hidden" {}
`
	for names, want := range map[string]struct{ targets, groups, err string }{
		"":            {targets: "a", groups: "default=a"},
		"default":     {targets: "a", groups: "default=a"},
		"a":           {targets: "a", groups: "default=a"},
		"c a":         {targets: "a c", groups: "default=a,c"},
		"a a":         {targets: "a", groups: "default=a"},
		"inner":       {targets: "a c", groups: "default=inner inner=a,c"},
		"all":         {targets: "a b c", groups: "all=inner,b b=b,a default=all inner=a,c"},
		"b":           {targets: "a b", groups: "b=b,a default=b"},
		"default c":   {targets: "a c", groups: "default=a,c"},
		"_hidden":     {targets: "_hidden", groups: "default=_hidden"},
		"?":           {targets: "a b c", groups: "b=b,a default=a,b,c"},
		"[ac]":        {targets: "a c", groups: "default=a,c"},
		"x":           {err: "failed to find target x"},
		"x*":          {err: `could not find any target matching "x*"`},
		"empty":       {groups: "default=empty empty="},
		"a.b":         {err: "failed to find target a_b"},
		"a x default": {err: "failed to find target x"},
	} {
		t.Run(names, func(t *testing.T) {
			t.Parallel()
			def, err := Read([]File{{"docker-bake.hcl", []byte(file)}}, Options{Targets: strings.Fields(names)})
			if err != nil || want.err != "" {
				if err == nil || err.Error() != want.err {
					t.Errorf("%v, want %q", err, want.err)
				}
				return
			}
			if got := strings.Join(slices.Sorted(maps.Keys(def.Targets)), " "); got != want.targets {
				t.Errorf("targets %s, want %s", got, want.targets)
			}
			var groups []string
			for _, name := range slices.Sorted(maps.Keys(def.Groups)) {
				groups = append(groups, name+"="+strings.Join(def.Groups[name].Targets, ","))
			}
			if got := strings.Join(groups, " "); got != want.groups {
				t.Errorf("groups %s, want %s", got, want.groups)
			}
		})
	}
}
