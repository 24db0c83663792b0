package bake

import (
	"strings"
	"testing"
)

// TestServices: the key build of a service, and its extension, as the keys of a target.
func TestServices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ service, key, want string }{
		"context":             {"build: ./dir", "context", `"dir"`},
		"no context":          {"build: {target: t}", "context", `"."`},
		"remote context":      {"build: https://example.org/x.git", "context", `"https://example.org/x.git"`},
		"dockerfile":          {"build: {context: dir, dockerfile: D}", "dockerfile", `"D"`},
		"inline":              {"build: {context: ., dockerfile_inline: FROM a}", "dockerfile-inline", `"FROM a"`},
		"args":                {"build: {context: ., args: {A: '1', B: '', UNSET: }}", "args", `{"A":"1","B":""}`},
		"no args":             {"build: .", "args", ""},
		"labels":              {"build: {context: ., labels: [a=1, b]}", "labels", `{"a":"1","b":""}`},
		"target":              {"build: {context: ., target: t}", "target", `"t"`},
		"network":             {"build: {context: ., network: none}", "network", `"none"`},
		"host network":        {"build: {context: ., network: host}", "entitlements", `["network.host"]`},
		"platforms":           {"build: {context: ., platforms: [linux/amd64, linux/arm64]}", "platforms", `["linux/amd64","linux/arm64"]`},
		"image":               {"image: i\n    build: .", "tags", `["i"]`},
		"tags before image":   {"image: i\n    build: {context: ., tags: [a, b]}", "tags", `["a","b"]`},
		"shm_size":            {"build: {context: ., shm_size: 64m}", "shm-size", `"64MiB"`},
		"shm_size, bytes":     {"build: {context: ., shm_size: 1000}", "shm-size", `"1000B"`},
		"ulimits":             {"build: {context: ., ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}}", "ulimits", `["nofile=1:2","nproc=5:5"]`},
		"extra_hosts":         {"build: {context: ., extra_hosts: ['a=1.1.1.1', 'b=2.2.2.2']}", "extra-hosts", `{"a":"1.1.1.1","b":"2.2.2.2"}`},
		"pull":                {"build: {context: ., pull: true}", "pull", "true"},
		"pull, off":           {"build: {context: ., pull: false}", "pull", ""},
		"no_cache":            {"build: {context: ., no_cache: true}", "no-cache", "true"},
		"cache_from":          {"build: {context: ., cache_from: [a, 'type=local,src=d']}", "cache-from", `[{"ref":"a","type":"registry"},{"src":"d","type":"local"}]`},
		"cache_to":            {"build: {context: ., cache_to: ['type=inline', '']}", "cache-to", `[{"type":"inline"}]`},
		"ssh":                 {"build: {context: ., ssh: [k=b, default]}", "ssh", `[{"id":"default"},{"id":"k","paths":["b"]}]`},
		"secrets":             {"build: {context: ., secrets: [s]}", "secret", `[{"id":"s","src":"f"}]`},
		"contexts":            {"build: {context: ., additional_contexts: {a: dir, b: 'service:d.b'}}", "contexts", `{"a":"dir","b":"target:d_b"}`},
		"contexts, a list":    {"build: {context: ., additional_contexts: ['a=target:d.b']}", "contexts", `{"a":"target:d_b"}`},
		"sbom":                {"build: {context: ., sbom: true}", "attest", `[{"type":"sbom"}]`},
		"attestations":        {"build: {context: ., sbom: 'generator=g', provenance: mode=max}", "attest", `[{"generator":"g","type":"sbom"},{"mode":"max","type":"provenance"}]`},
		"no provenance":       {"build: {context: ., provenance: false}", "attest", `[{"disabled":true,"type":"provenance"}]`},
		"x-bake tags":         {"build: {context: ., tags: [a], x-bake: {tags: [b, a]}}", "tags", `["a","b"]`},
		"x-bake before image": {"image: i\n    build: {context: ., x-bake: {tags: [a]}}", "tags", `["a"]`},
		"x-bake platforms":    {"build: {context: ., platforms: [linux/amd64], x-bake: {platforms: [linux/arm64]}}", "platforms", `["linux/amd64","linux/arm64"]`},
		"x-bake cache-from":   {"build: {context: ., cache_from: [a], x-bake: {cache-from: [a, b]}}", "cache-from", `[{"ref":"a","type":"registry"},{"ref":"b","type":"registry"}]`},
		"x-bake cache-to":     {"build: {context: ., x-bake: {cache-to: type=inline}}", "cache-to", `[{"type":"inline"}]`},
		"x-bake output":       {"build: {context: ., x-bake: {output: [out, out]}}", "output", `[{"dest":"out","type":"local"}]`},
		"x-bake secret":       {"build: {context: ., secrets: [s], x-bake: {secret: ['id=s,env=E', 'id=t,src=g']}}", "secret", `[{"id":"s","env":"E"},{"id":"t","src":"g"}]`},
		"x-bake ssh":          {"build: {context: ., ssh: [k=a], x-bake: {ssh: [k=b, default]}}", "ssh", `[{"id":"default"},{"id":"k","paths":["b"]}]`},
		"x-bake pull":         {"build: {context: ., pull: true, x-bake: {pull: false}}", "pull", "false"},
		"x-bake no-cache":     {"build: {context: ., x-bake: {no-cache: true}}", "no-cache", "true"},
		"x-bake filter":       {"build: {context: ., x-bake: {no-cache-filter: a b}}", "no-cache-filter", `["a","b"]`},
		"x-bake contexts":     {"build: {context: ., additional_contexts: {a: x}, x-bake: {contexts: {a: y, b: 'service:z'}}}", "contexts", `{"a":"x","b":"target:z"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := "services:\n  web:\n    " + c.service + "\n  d.b: {build: .}\n  z: {build: .}\nsecrets: {s: {file: ./f}}\n"
			def, err := Read([]File{{"compose.yaml", []byte(file)}}, Options{Targets: []string{"web"}})
			if err != nil {
				t.Fatal(err)
			}
			if got := field(t, def.Targets["web"], c.key); got != c.want {
				t.Errorf("%s = %s, want %s", c.key, got, c.want)
			}
		})
	}
}

func TestServiceErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, want string }{
		"name":           {"services: {'a b': {build: .}}", "compose.yaml: "},
		"broken":         {"services: {a: {build: 1}}", "compose.yaml: "},
		"ulimit":         {"services: {a: {build: {context: ., ulimits: {nothing: 1}}}}", "failed to parse compose file: service a: invalid ulimit type: nothing"},
		"cache_from":     {"services: {a: {build: {context: ., cache_from: ['ref=a']}}}", `failed to parse compose file: service a: type required for "ref=a"`},
		"cache_to":       {"services: {a: {build: {context: ., cache_to: ['a=b']}}}", `failed to parse compose file: service a: type required for "a=b"`},
		"provenance":     {"services: {a: {build: {context: ., provenance: 'x'}}}", "failed to parse compose file: service a: invalid value x: expected key=value"},
		"x-bake output":  {"services: {a: {build: {context: ., x-bake: {output: ['type=']}}}}", `failed to parse compose file: service a: x-bake: invalid output "type=": type is required for output`},
		"x-bake secret":  {"services: {a: {build: {context: ., x-bake: {secret: [a]}}}}", `failed to parse compose file: service a: x-bake: field "a" must be a key=value pair`},
		"x-bake type":    {"services: {a: {build: {context: ., x-bake: {pull: maybe}}}}", "failed to parse compose file: service a: x-bake: yaml: unmarshal errors: line 1: cannot unmarshal !!str `maybe` into bool"},
		"external":       {"services: {a: {build: {context: ., secrets: [s]}}}\nsecrets: {s: {external: true}}", "failed to parse compose file: service a: unsupported external secret s"},
		"nothing to do":  {"services: {a: {image: i}}", ""},
		"a missing link": {"services: {a: {build: {context: ., additional_contexts: {b: 'service:no'}}}}", `failed to parse compose file: service "a" declares unknown service "no" as additional contexts b`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			def, err := Read([]File{{"compose.yaml", []byte(c.file)}}, Options{})
			if c.want == "" {
				if err != nil || len(def.Targets) > 0 {
					t.Errorf("%v, %v", def, err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestEqualNames: services whose names differ only in what no name of a target has are one target.
func TestEqualNames(t *testing.T) {
	t.Parallel()
	def, err := Read([]File{{"compose.yaml", []byte("services: {a.b: {build: x}, a_b: {build: {context: y, target: t}}}")}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	target := def.Targets["a_b"]
	if len(def.Targets) != 1 || *target.Context != "y" || *target.Target != "t" || len(def.Groups["default"].Targets) != 1 {
		t.Errorf("%d targets, %s %s, group %v", len(def.Targets), *target.Context, *target.Target, def.Groups["default"].Targets)
	}
}

// TestComposeAndHCL: what a bake file says of a service's target is laid over the service.
func TestComposeAndHCL(t *testing.T) {
	t.Parallel()
	def, err := Read([]File{
		{"docker-bake.hcl", []byte("target \"web\" {\n args = { A = \"hcl\" }\n tags = [\"t\"]\n}\ntarget \"more\" { inherits = [\"web\"] }\n")},
		{"compose.yaml", []byte("services: {web: {image: i, build: {context: dir, args: {A: c, B: c}}}}")},
	}, Options{Targets: []string{"web", "more"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", "more"} {
		target := def.Targets[name]
		for key, want := range map[string]string{"args": `{"A":"hcl","B":"c"}`, "tags": `["t"]`, "context": `"dir"`} {
			if got := field(t, target, key); got != want {
				t.Errorf("%s: %s = %s, want %s", name, key, got, want)
			}
		}
	}
}
