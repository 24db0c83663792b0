package bake

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// field is the JSON of one key of a target, "" if it is missing.
func field(t *testing.T, target *Target, key string) string {
	t.Helper()
	data, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return string(all[key])
}

// TestOverrides: buildx 0.36 sets network, no-cache-filter and ulimits to nothing, whatever their values are.
func TestOverrides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body string // of the target
		set  []string
		key  string // as it is printed
		want string
	}{
		"context":            {`context = "a"`, []string{"context=b"}, "context", `"b"`},
		"context, none":      {`context = "a"`, []string{"context="}, "context", `"."`},
		"context, cwd":       {"", []string{"context=cwd://b/../c"}, "context", `"c"`},
		"dockerfile":         {"", []string{"dockerfile=D"}, "dockerfile", `"D"`},
		"dockerfile, none":   {`dockerfile = "D"`, []string{"dockerfile="}, "dockerfile", `"Dockerfile"`},
		"target":             {`target = "a"`, []string{"target=b"}, "target", `"b"`},
		"call":               {"", []string{"call=outline"}, "call", `"outline"`},
		"network":            {`network = "none"`, []string{"network=default"}, "network", `"default"`},
		"shm-size":           {"", []string{"shm-size=1g"}, "shm-size", `"1g"`},
		"pull":               {"", []string{"pull=true"}, "pull", "true"},
		"pull, off":          {"pull = true", []string{"pull=0"}, "pull", "false"},
		"no-cache":           {"", []string{"no-cache=1"}, "no-cache", "true"},
		"the last":           {"", []string{"target=a", "target=b"}, "target", `"b"`},
		"a value with =":     {"", []string{"target=a=b"}, "target", `"a=b"`},
		"args":               {`args = { A = "1", B = "2" }`, []string{"args.A=3", "args.C=4"}, "args", `{"A":"3","B":"2","C":"4"}`},
		"args, empty":        {`args = { A = "1" }`, []string{"args.A="}, "args", `{"A":""}`},
		"args, with dots":    {"", []string{"args.a.b=1"}, "args", `{"a.b":"1"}`},
		"args, environment":  {"", []string{"args.SET"}, "args", `{"SET":"environ"}`},
		"args, unset":        {`args = { UNSET = "1" }`, []string{"args.UNSET"}, "args", `{"UNSET":"1"}`},
		"labels":             {`labels = { a = "1" }`, []string{"labels.org.example=2"}, "labels", `{"a":"1","org.example":"2"}`},
		"contexts":           {`contexts = { a = "b" }`, []string{"contexts.c=d"}, "contexts", `{"a":"b","c":"d"}`},
		"contexts, none":     {`contexts = { a = "b" }`, []string{"contexts.a="}, "contexts", ""},
		"extra-hosts":        {`extra-hosts = { a = "1.1.1.1" }`, []string{"extra-hosts.a=2.2.2.2"}, "extra-hosts", `{"a":"2.2.2.2"}`},
		"resources":          {`resources = { memory = "1g", cpu-shares = 2 }`, []string{"resources.memory=2g"}, "resources", `{"memory":"2g","cpu-shares":2}`},
		"resources, new":     {"", []string{"resources.cpu-quota=5"}, "resources", `{"cpu-quota":5}`},
		"tags":               {`tags = ["a", "b"]`, []string{"tags=c"}, "tags", `["c"]`},
		"tags, several":      {`tags = ["a"]`, []string{"tags=b", "tags=c", "tags=b"}, "tags", `["b","c"]`},
		"tags, added":        {`tags = ["a"]`, []string{"tags+=b"}, "tags", `["a","b"]`},
		"tags, both added":   {`tags = ["a"]`, []string{"tags+=b", "tags+=c"}, "tags", `["a","b","c"]`},
		"tags, last says":    {`tags = ["a"]`, []string{"tags=b", "tags+=c"}, "tags", `["a","b","c"]`},
		"tags, last sets":    {`tags = ["a"]`, []string{"tags+=b", "tags=c"}, "tags", `["b","c"]`},
		"tags, none":         {`tags = ["a"]`, []string{"tags="}, "tags", ""},
		"platform":           {`platforms = ["linux/amd64"]`, []string{"platform=linux/arm64"}, "platforms", `["linux/arm64"]`},
		"platform, added":    {`platforms = ["linux/amd64"]`, []string{"platform+=linux/arm64"}, "platforms", `["linux/amd64","linux/arm64"]`},
		"no-cache-filter":    {`no-cache-filter = ["a"]`, []string{"no-cache-filter+=b"}, "no-cache-filter", `["a","b"]`},
		"ulimits":            {`ulimits = ["nofile=1:1"]`, []string{"ulimits=nproc=2:2"}, "ulimits", `["nproc=2:2"]`},
		"annotations add":    {`annotations = ["a=1"]`, []string{"annotations=b=2"}, "annotations", `["a=1","b=2"]`},
		"entitlements add":   {`entitlements = ["network.host"]`, []string{"entitlements=security.insecure"}, "entitlements", `["network.host","security.insecure"]`},
		"attest adds":        {`attest = ["type=sbom"]`, []string{"attest=type=provenance,mode=max"}, "attest", `[{"type":"sbom"},{"mode":"max","type":"provenance"}]`},
		"attest of a type":   {`attest = ["type=provenance,mode=min"]`, []string{"attest=type=provenance,mode=max"}, "attest", `[{"mode":"max","type":"provenance"}]`},
		"attest, disabled":   {"", []string{"attest=type=sbom,disabled=true"}, "attest", `[{"disabled":true,"type":"sbom"}]`},
		"output":             {`output = ["type=docker"]`, []string{"output=out"}, "output", `[{"dest":"out","type":"local"}]`},
		"output, added":      {`output = ["type=docker"]`, []string{"output+=type=image"}, "output", `[{"type":"docker"},{"type":"image"}]`},
		"output, none":       {`output = ["type=docker"]`, []string{"output="}, "output", ""},
		"cache-from":         {`cache-from = ["a"]`, []string{"cache-from=b"}, "cache-from", `[{"ref":"b","type":"registry"}]`},
		"cache-from, added":  {`cache-from = ["a"]`, []string{"cache-from+=type=local,src=d"}, "cache-from", `[{"ref":"a","type":"registry"},{"src":"d","type":"local"}]`},
		"cache-to":           {`cache-to = ["type=inline"]`, []string{"cache-to=type=local,dest=d"}, "cache-to", `[{"dest":"d","type":"local"}]`},
		"policy":             {`policy = ["filename=a"]`, []string{"policy+=filename=b"}, "policy", `[{"filename":"a","type":""},{"filename":"b","type":""}]`},
		"secrets":            {`secret = ["id=a,src=f"]`, []string{"secrets=id=b,env=E"}, "secret", `[{"id":"b","env":"E"}]`},
		"secrets, added":     {`secret = ["id=a,src=f"]`, []string{"secrets+=id=b,env=E"}, "secret", `[{"id":"a","src":"f"},{"id":"b","env":"E"}]`},
		"secrets, replaced":  {`secret = ["id=a,src=f"]`, []string{"secrets+=id=a,env=E"}, "secret", `[{"id":"a","env":"E"}]`},
		"source of a secret": {`secret = ["id=a,src=f", "id=b,src=g"]`, []string{"secret.a=env=E"}, "secret", `[{"id":"a","env":"E"},{"id":"b","src":"g"}]`},
		"the same id":        {`secret = ["id=a,src=f"]`, []string{"secret.a=id=a,src=g"}, "secret", `[{"id":"a","src":"g"}]`},
		"ssh":                {`ssh = ["default"]`, []string{"ssh=k=key"}, "ssh", `[{"id":"k","paths":["key"]}]`},
		"ssh, added":         {`ssh = ["default"]`, []string{"ssh+=k=a,b"}, "ssh", `[{"id":"default"},{"id":"k","paths":["a","b"]}]`},
		"push":               {"", []string{"push=true"}, "output", `[{"push":"true","type":"image"}]`},
		"push, off":          {`output = ["type=registry"]`, []string{"push=false"}, "output", ""},
		"load":               {"", []string{"load=true"}, "output", `[{"type":"docker"}]`},
		"load, off":          {`output = ["type=image"]`, []string{"load=false"}, "output", `[{"type":"image"}]`},
		"push and load":      {"", []string{"push=true", "load=true"}, "output", `[{"push":"true","type":"image"},{"type":"docker"}]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{Env: func(name string) (string, bool) { return "environ", name == "SET" }}
			for _, s := range c.set {
				o.Overrides = append(o.Overrides, "default."+s)
			}
			def, err := Read([]File{{"docker-bake.hcl", []byte("target \"default\" {\n" + c.body + "\n}\n")}}, o)
			if err != nil {
				t.Fatal(err)
			}
			if got := field(t, def.Targets["default"], c.key); got != c.want {
				t.Errorf("%s = %s, want %s", c.key, got, c.want)
			}
		})
	}
}

// TestOverridePatterns: an override is for the targets whose names match, and those that inherit from them.
func TestOverridePatterns(t *testing.T) {
	t.Parallel()
	const file = `
group "default" { targets = ["app-a", "app-b", "sub", "other"] }
target "app-a" {}
target "app-b" {}
target "sub" { inherits = ["app-a"] }
target "other" {}
`
	for pattern, want := range map[string]string{
		"*": "app-a app-b other sub", "app-a": "app-a sub", "app-?": "app-a app-b sub", "app-[b-z]": "app-b", "sub": "sub", "*b": "app-b sub",
	} {
		t.Run(pattern, func(t *testing.T) {
			t.Parallel()
			def, err := read(file, pattern+".target=x")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, name := range slices.Sorted(maps.Keys(def.Targets)) {
				if def.Targets[name].Target != nil {
					got = append(got, name)
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("overridden are %v, want %s", got, want)
			}
		})
	}
}

func TestOverrideErrors(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"default":                      "invalid override key default, expected target.name",
		"default.tags":                 "invalid override default.tags, expected target.name=value",
		"default.args=1":               "invalid key default.args, args requires name",
		"default.args.=1":              "invalid key default.args., args requires name",
		"default.secret=src=f":         "invalid key default.secret, secret requires name",
		"default.resources=1":          "invalid key default.resources, resources requires name",
		"default.tags.a=b":             "unknown key: tags.a",
		"default.tag=b":                "unknown key: tag",
		"default.platforms=b":          "unknown key: platforms",
		"default.description=b":        "unknown key: description",
		"nothing.tags=a":               "could not find any target matching 'nothing'",
		"n*.tags=a":                    "could not find any target matching 'n*'",
		"[.tags=a":                     "could not match targets with '[': syntax error in pattern",
		"default.pull=maybe":           "invalid value maybe for boolean key pull",
		"default.no-cache=":            "invalid value  for boolean key no-cache",
		"default.push=2":               "invalid value 2 for boolean key push",
		"default.load=x":               "invalid value x for boolean key load",
		"default.resources.gpu=1":      "unknown resources key gpu",
		"default.resources.cpu-quota=": "invalid value  for int64 key resources.cpu-quota",
		"default.output=type=":         `invalid value for output: invalid output "type=": type is required for output`,
		"default.cache-from=ref=a":     `invalid value for cache-from: type required for "ref=a"`,
		"default.cache-to=a=b":         `invalid value for cache-to: type required for "a=b"`,
		"default.attest=mode=max":      "invalid value for attest: attestation type not specified",
		"default.policy=a":             "invalid value for policy: invalid value a: expected key=value",
		"default.secrets=a":            `invalid value for secrets: field "a" must be a key=value pair`,
		"default.secret.b=src=f":       `secret "b" must be declared before it can be overridden`,
		"default.secret.a=id=b,src=f":  `secret override id "b" does not match declared secret "a"`,
		"default.secret.a=f":           `field "f" must be a key=value pair`,
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			_, err := read(`target "default" { secret = ["id=a,src=f"] }`, set)
			if err == nil || err.Error() != want {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}
