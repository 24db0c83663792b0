package bake

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// grantTree is a directory with the working directory project, a directory beside it, and links.
func grantTree(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"project/sub", "beside/deep"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"project/in": "sub", "project/out": "../beside", "project/loop": "loop", "back": "project"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestGrants(t *testing.T) {
	dir := grantTree(t)
	t.Chdir(filepath.Join(dir, "project"))
	for name, c := range map[string]struct {
		body  string // of the target
		allow []string
		set   []string
		want  []string // DIR is replaced by the directory of the tree
	}{
		"nothing":            {},
		"directory":          {body: `context = "sub"`},
		"missing directory":  {body: `context = "no/such"`},
		"outside":            {body: `context = ".."`, want: []string{"fs.read=DIR"}},
		"outside, there":     {body: `context = ".."`, allow: []string{"fs.read=.."}},
		"outside, below":     {body: `context = "../beside/deep"`, allow: []string{"fs.read=../beside"}},
		"outside, not there": {body: `context = "../beside"`, allow: []string{"fs.read=../beside/deep"}, want: []string{"fs.read=DIR/beside"}},
		"outside, missing":   {body: `context = "../beside/no/such"`, want: []string{"fs.read=DIR/beside"}},
		"outside, written":   {body: `context = "../beside"`, allow: []string{"fs.write=../beside"}, want: []string{"fs.read=DIR/beside"}},
		"same beginning":     {body: `context = "../project2"`, want: []string{"fs.read=DIR"}},
		"any":                {body: `context = "/"`, allow: []string{"fs=*"}},
		"any to read":        {body: "context = \"/\"\n output = [\"../out\"]", allow: []string{"fs.read=*"}, want: []string{"fs.write=DIR"}},
		"root":               {body: `context = "/etc"`, allow: []string{"fs=/"}},
		"link inside":        {body: `context = "in"`},
		"link outside":       {body: `context = "out"`, want: []string{"fs.read=DIR/beside"}},
		"below a link":       {body: `context = "out/deep"`, want: []string{"fs.read=DIR/beside/deep"}},
		"link back":          {body: `context = "../back/sub"`},
		"link in a grant":    {body: `context = "../beside"`, allow: []string{"fs.read=out"}},
		"cwd":                {body: `context = "cwd://../beside"`, want: []string{"fs.read=DIR/beside"}},
		"dockerfile":         {body: `dockerfile = "../beside/D"`, want: []string{"fs.read=DIR/beside"}},
		"dockerfile, cwd":    {body: "context = \"sub\"\n dockerfile = \"cwd://../beside/D\"", want: []string{"fs.read=DIR/beside"}},
		"dockerfile, inline": {body: "dockerfile = \"/D\"\n dockerfile-inline = \"FROM a\""},
		"dockerfile, remote": {body: `dockerfile = "https://example.org/D"`},
		"remote context":     {body: `context = "https://example.org/x.git"`},
		"named context":      {body: `contexts = { a = "../beside", b = "docker-image://x", c = "https://example.org/x.git" }`, want: []string{"fs.read=DIR/beside"}},
		"secret":             {body: `secret = ["id=a,src=../beside/s"]`, want: []string{"fs.read=DIR/beside"}},
		"secret, variable":   {body: `secret = ["id=a,env=A"]`},
		"agent":              {body: `ssh = ["default"]`, want: []string{"ssh"}},
		"agent, allowed":     {body: `ssh = ["default"]`, allow: []string{"ssh"}},
		"key":                {body: `ssh = ["k=../beside/k"]`, want: []string{"fs.read=DIR/beside"}},
		"cache, read":        {body: `cache-from = ["type=local,src=../beside"]`, want: []string{"fs.read=DIR/beside"}},
		"cache, written":     {body: `cache-to = ["type=local,dest=../beside"]`, want: []string{"fs.write=DIR/beside"}},
		"cache, both": {
			body: "cache-from = [\"type=local,src=../beside\"]\n cache-to = [\"type=local,dest=../beside\"]", want: []string{"fs=DIR/beside"},
		},
		"cache, registry":   {body: `cache-from = ["type=registry,ref=a,src=/x"]`},
		"written":           {body: `output = ["../out"]`, want: []string{"fs.write=DIR"}},
		"written inside":    {body: `output = ["out2"]`},
		"written to stdout": {body: `output = ["-"]`},
		"inside another":    {body: "context = \"..\"\n contexts = { a = \"../beside/deep\", b = \"../beside\" }", want: []string{"fs.read=DIR"}},
		"host network":      {body: `network = "host"`, want: []string{"network.host"}},
		"allowed":           {body: `network = "host"`, allow: []string{"network.host"}},
		"insecure":          {body: `entitlements = ["security.insecure", "network.host"]`, allow: []string{"network.host"}, want: []string{"security.insecure"}},
		"removing":          {body: `output = ["type=local,dest=out2,mode=delete"]`, want: []string{"buildx.local.delete"}},
		"removing, allowed": {body: `output = ["type=local,dest=out2,mode=delete"]`, allow: []string{"buildx.local.delete"}},
		"not checked":       {allow: []string{"device", "device=x", "image=a", "image.push=a", "image.load=b"}},
		"set, output":       {set: []string{"output=../out"}},
		"set, cache-from":   {set: []string{"cache-from=type=local,src=../beside"}},
		"set, cache-to":     {set: []string{"cache-to=type=local,dest=../beside"}},
		"set, secrets":      {set: []string{"secrets=id=a,src=../beside/s"}},
		"set, secret":       {body: `secret = ["id=a,src=../beside/s", "id=b,src=/etc/s"]`, set: []string{"secret.a=src=../beside/t"}, want: []string{"fs.read=/etc"}},
		"set, key":          {set: []string{"ssh=k=../beside/k"}},
		"set, agent":        {set: []string{"ssh=default"}, want: []string{"ssh"}},
		"set, entitlement":  {set: []string{"entitlements=network.host"}},
		"set, context":      {set: []string{"context=../beside"}, want: []string{"fs.read=DIR/beside"}},
		"several": {
			body: "context = \"../beside\"\n network = \"host\"\n output = [\"/nowhere/out\"]\n ssh = [\"default\"]",
			want: []string{"network.host", "ssh", "fs.read=DIR/beside", "fs.write=/"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var set []string
			for _, s := range c.set {
				set = append(set, "*."+s)
			}
			got, err := missing("target \"default\" {\n"+c.body+"\n}\n", c.allow, set)
			want := strings.Split(strings.ReplaceAll(strings.Join(c.want, " "), "DIR", dir), " ")
			if c.want == nil {
				want = nil
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("missing %q, %v; want %q", got, err, want)
			}
		})
	}
}

// missing are the values of --allow that a file needs beside those that are given and the working directory.
func missing(file string, allow, set []string) ([]string, error) {
	def, err := read(file, set...)
	if err != nil {
		return nil, err
	}
	g, err := ParseGrants(allow)
	if err != nil {
		return nil, err
	}
	g.Add(def.Granted)
	g.AllowDirectory(".")
	return g.Missing(def.Targets)
}

// TestGrantsOfLinks: a target needs what the targets need whose results it uses.
func TestGrantsOfLinks(t *testing.T) {
	t.Parallel()
	got, err := missing(`
target "default" { contexts = { x = "target:b" } }
target "b" {
  contexts = { y = "target:c" }
  ssh = ["default"]
}
target "c" { entitlements = ["security.insecure"] }
`, nil, nil)
	if want := []string{"security.insecure", "ssh"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

func TestAllowAllFiles(t *testing.T) {
	t.Parallel()
	def, err := read("target \"default\" {\n context = \"/\"\n output = [\"/out\"]\n ssh = [\"default\"]\n network = \"host\"\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	g := &Grants{}
	g.AllowAllFiles()
	got, err := g.Missing(def.Targets)
	if err != nil || !slices.Equal(got, []string{"network.host"}) {
		t.Errorf("missing %v, %v", got, err)
	}
}

func TestGrantErrors(t *testing.T) {
	t.Chdir(filepath.Join(grantTree(t), "project"))
	for _, key := range []string{"all", "fs.delete=/", "", "network"} {
		if _, err := ParseGrants([]string{key}); err == nil || !strings.HasPrefix(err.Error(), "unknown entitlement key ") {
			t.Errorf("%q: %v", key, err)
		}
	}
	for file, allow := range map[string][]string{
		`target "default" { context = "loop" }`:      nil,
		`target "default" { output = ["loop/out"] }`: nil,
		`target "default" { output = ["out"] }`:      {"fs=loop"},
		`target "default" { context = ".." }`:        {"fs=loop"},
	} {
		if _, err := missing(file, allow, nil); !errors.Is(err, syscall.ELOOP) && !strings.Contains(errorText(err), "too many links") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDockerfilePath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ context, dockerfile, want string }{
		{".", "Dockerfile", "Dockerfile"}, {"dir", "D", "dir/D"}, {"dir", "../D", "D"}, {"dir", "/abs/D", "/abs/D"}, {"/abs", "D", "/abs/D"},
		{"cwd://dir", "D", "dir/D"}, {"dir", "cwd://D", "D"}, {"dir", "cwd:///D", "/D"},
	} {
		target := &Target{Context: &c.context, Dockerfile: &c.dockerfile}
		if got := target.DockerfilePath(); got != c.want {
			t.Errorf("%s of %s: %s, want %s", c.dockerfile, c.context, got, c.want)
		}
	}
}
