package bake

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMerge: a target that inherits, and one that a later file has again, get the same values.
func TestMerge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ first, second, key, want string }{
		"description":       {`description = "a"`, `description = "b"`, "description", `"b"`},
		"description, kept": {`description = "a"`, `description = ""`, "description", `"a"`},
		"context":           {`context = "a"`, `context = "b"`, "context", `"b"`},
		"context, kept":     {`context = "a"`, "", "context", `"a"`},
		"dockerfile":        {`dockerfile = "a"`, `dockerfile = "b"`, "dockerfile", `"b"`},
		"inline":            {`dockerfile-inline = "a"`, `dockerfile-inline = "b"`, "dockerfile-inline", `"b"`},
		"target":            {`target = "a"`, `target = "b"`, "target", `"b"`},
		"call":              {`call = "check"`, `call = "outline"`, "call", `"outline"`},
		"pull":              {"pull = true", "pull = false", "pull", "false"},
		"no-cache":          {"no-cache = true", "", "no-cache", "true"},
		"network":           {`network = "none"`, `network = "default"`, "network", `"default"`},
		"shm-size":          {`shm-size = "1m"`, `shm-size = "2m"`, "shm-size", `"2m"`},
		"tags":              {`tags = ["a"]`, `tags = ["b"]`, "tags", `["b"]`},
		"tags, none":        {`tags = ["a"]`, "tags = []", "tags", ""},
		"tags, kept":        {`tags = ["a"]`, "", "tags", `["a"]`},
		"platforms":         {`platforms = ["linux/amd64"]`, `platforms = ["linux/arm64"]`, "platforms", `["linux/arm64"]`},
		"cache-to":          {`cache-to = ["type=inline"]`, `cache-to = ["type=local,dest=d"]`, "cache-to", `[{"dest":"d","type":"local"}]`},
		"output":            {`output = ["a"]`, `output = ["b"]`, "output", `[{"dest":"b","type":"local"}]`},
		"output, none":      {`output = ["a"]`, "output = []", "output", ""},
		"args":              {`args = { A = "1", B = "1" }`, `args = { B = "2", C = "2" }`, "args", `{"A":"1","B":"2","C":"2"}`},
		"args, null":        {`args = { A = "1" }`, "args = { A = null }", "args", `{"A":"1"}`},
		"labels":            {`labels = { a = "1" }`, `labels = { a = "2" }`, "labels", `{"a":"2"}`},
		"extra-hosts":       {`extra-hosts = { a = "1.1.1.1" }`, `extra-hosts = { b = "2.2.2.2" }`, "extra-hosts", `{"a":"1.1.1.1","b":"2.2.2.2"}`},
		"contexts":          {`contexts = { a = "1", b = "1" }`, `contexts = { b = "2" }`, "contexts", `{"a":"1","b":"2"}`},
		"contexts, none":    {`contexts = { a = "1" }`, `contexts = { a = "" }`, "contexts", ""},
		"annotations":       {`annotations = ["a=1"]`, `annotations = ["b=2", "a=1"]`, "annotations", `["a=1","b=2"]`},
		"attest":            {`attest = ["type=sbom,generator=a", "type=provenance"]`, `attest = ["type=sbom,generator=b"]`, "attest", `[{"generator":"b","type":"sbom"},{"type":"provenance"}]`},
		"policy":            {`policy = ["filename=a"]`, `policy = ["filename=b"]`, "policy", `[{"filename":"a","type":""},{"filename":"b","type":""}]`},
		"secret":            {`secret = ["id=a,src=f", "id=b,src=f"]`, `secret = ["id=a,env=E"]`, "secret", `[{"id":"a","env":"E"},{"id":"b","src":"f"}]`},
		"ssh":               {`ssh = ["default", "k=a"]`, `ssh = ["k=b"]`, "ssh", `[{"id":"default"},{"id":"k","paths":["b"]}]`},
		"cache-from":        {`cache-from = ["a"]`, `cache-from = ["b", "a"]`, "cache-from", `[{"ref":"a","type":"registry"},{"ref":"b","type":"registry"}]`},
		"no-cache-filter":   {`no-cache-filter = ["a"]`, `no-cache-filter = ["b"]`, "no-cache-filter", `["a","b"]`},
		"ulimits":           {`ulimits = ["nofile=1:1"]`, `ulimits = ["nproc=1:1"]`, "ulimits", `["nofile=1:1","nproc=1:1"]`},
		"entitlements":      {`entitlements = ["network.host"]`, `entitlements = ["security.insecure"]`, "entitlements", `["network.host","security.insecure"]`},
		"entitled network":  {`network = "host"`, "", "entitlements", `["network.host"]`},
		"former network":    {`network = "host"`, `network = "none"`, "entitlements", `["network.host"]`},
		"resources":         {`resources = { memory = "1g", cpu-quota = 1 }`, `resources = { cpu-quota = 2 }`, "resources", `{"memory":"1g","cpu-quota":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			block := func(name, body string) string { return "target \"" + name + "\" {\n" + body + "\n}\n" }
			def, err := read(block("base", c.first) + block("default", "inherits = [\"base\"]\n"+c.second))
			if err != nil {
				t.Fatal(err)
			}
			if got := field(t, def.Targets["default"], c.key); got != c.want {
				t.Errorf("inherited: %s = %s, want %s", c.key, got, c.want)
			}
			def, err = Read([]File{{"a.hcl", []byte(block("default", c.first))}, {"b.hcl", []byte(block("default", c.second))}}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := field(t, def.Targets["default"], c.key); got != c.want && name != "former network" {
				t.Errorf("of two files: %s = %s, want %s", c.key, got, c.want)
			}
		})
	}
}

// TestMergeLeavesParents: what a target adds is not in the targets that it inherits, nor in their other heirs.
func TestMergeLeavesParents(t *testing.T) {
	t.Parallel()
	const file = `
target "base" {
  args = { A = "base" }
  contexts = { a = "base" }
  resources = { memory = "1g" }
  secret = ["id=a,src=base"]
  output = ["type=image"]
  ulimits = ["nofile=1:1"]
}
target "sub" {
  inherits = ["base"]
  args = { A = "sub", B = "sub" }
  contexts = { a = "", b = "sub" }
  resources = { memory = "2g" }
  secret = ["id=a,src=sub"]
  ulimits = ["nproc=1:1"]
}
target "heir" { inherits = ["base"] }
`
	alone, err := Read([]File{{"a.hcl", []byte(file)}}, Options{Targets: []string{"base"}})
	if err != nil {
		t.Fatal(err)
	}
	all, err := Read([]File{{"a.hcl", []byte(file)}}, Options{
		Targets:   []string{"sub", "base", "heir"},
		Overrides: []string{"sub.secret.a=env=E", "sub.resources.memory=3g", "sub.push=true", "sub.args.A=set", "sub.contexts.c=set"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range strings.Fields("args contexts resources secret output ulimits") {
		want := field(t, alone.Targets["base"], key)
		for _, name := range []string{"base", "heir"} {
			if diff := cmp.Diff(want, field(t, all.Targets[name], key)); diff != "" {
				t.Errorf("%s of %s: %s", key, name, diff)
			}
		}
		if field(t, all.Targets["sub"], key) == want {
			t.Errorf("%s of sub is that of base", key)
		}
	}
}
