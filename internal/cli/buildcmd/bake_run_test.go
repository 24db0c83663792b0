package buildcmd

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
)

const bakeFile = `
variable "TAG" {
  default = "1"
  description = "the tag"
}
variable "NONE" {}
group "default" { targets = ["web", "db"] }
target "web" {
  description = "the web"
  tags = ["web:${TAG}"]
  contexts = { other = "target:db" }
}
target "db" {
  target = "base"
  tags = ["db:1"]
}
target "linked" {
  dockerfile-inline = "FROM helper\nCOPY b /"
  contexts = { helper = "target:helper" }
  tags = ["linked:1"]
}
target "helper" {
  dockerfile-inline = "FROM scratch\nCOPY a /"
  output = ["type=cacheonly"]
}
`

// newBakeProject is a project with a bake file, in its directory.
func newBakeProject(t *testing.T) *project {
	t.Helper()
	p := newProject(t)
	p.write(t, "docker-bake.hcl", bakeFile)
	t.Chdir(p.dir)
	return p
}

func TestBakePrint(t *testing.T) {
	p := newBakeProject(t)
	got := p.run(t, NewBakeCommand, "--print --var TAG=2 --set db.args.A=1 --no-cache")
	want := `{
  "group": {
    "default": {
      "targets": [
        "db",
        "web"
      ]
    }
  },
  "target": {
    "db": {
      "context": ".",
      "dockerfile": "Dockerfile",
      "args": {
        "A": "1"
      },
      "tags": [
        "db:1"
      ],
      "target": "base",
      "no-cache": true
    },
    "web": {
      "description": "the web",
      "context": ".",
      "contexts": {
        "other": "target:db"
      },
      "dockerfile": "Dockerfile",
      "tags": [
        "web:2"
      ],
      "no-cache": true
    }
  }
}
`
	if diff := cmp.Diff(want, got.Stdout); diff != "" || got.Err != nil || got.Stderr != "" {
		t.Errorf("%v, %q\n%s", got.Err, got.Stderr, diff)
	}
	if images, err := p.Images.List(t.Context()); len(images) > 0 || err != nil {
		t.Errorf("%d images, %v", len(images), err)
	}
}

func TestBakePrintsLists(t *testing.T) {
	p := newBakeProject(t)
	for args, want := range map[string]string{
		"--list targets":   "TARGET\tDESCRIPTION\ndb\t\ndefault\tdb, web\nhelper\t\nlinked\t\nweb\tthe web\n",
		"--list variables": "VARIABLE\tTYPE\tVALUE\tDESCRIPTION\nNONE\t\t\t\t\nTAG\t\t\t1\tthe tag\n",
		"--list type=variables,format=json": `[
  {
    "name": "NONE",
    "value": ""
  },
  {
    "name": "TAG",
    "description": "the tag",
    "value": "1"
  }
]
`,
	} {
		if got := p.run(t, NewBakeCommand, args); got.Stdout != want || got.Err != nil {
			t.Errorf("%s: %v\n%s", args, got.Err, cmp.Diff(want, got.Stdout))
		}
	}
}

// TestBake: several targets are built, and the steps have the names of their targets.
func TestBake(t *testing.T) {
	p := newBakeProject(t)
	got := p.run(t, NewBakeCommand, "--progress plain --metadata-file meta")
	if got.Err != nil || got.Stdout != "" {
		t.Fatalf("%+v", got)
	}
	for _, line := range []string{
		"[db internal] load build definition from Dockerfile", "[db base 1/1] COPY a /", "[web last 1/1] COPY b /dir/", "[web] exporting to image",
		"naming to docker.io/library/db:1", "naming to docker.io/library/web:1",
	} {
		if !strings.Contains(got.Stderr, line) {
			t.Errorf("no line %q in\n%s", line, got.Stderr)
		}
	}
	var meta map[string]map[string]any
	if err := json.Unmarshal([]byte(p.read(t, "meta")), &meta); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"db", "web"} {
		img, err := p.Images.Find(t.Context(), target+":1")
		if err != nil || meta[target]["containerimage.config.digest"] != img.ID.String() || meta[target]["image.name"] != "docker.io/library/"+target+":1" {
			t.Errorf("%s: %v, %v", target, err, meta[target])
		}
	}
	if one := p.run(t, NewBakeCommand, "--progress plain db"); !strings.Contains(one.Stderr, "[base 1/1] COPY a /\n") || one.Err != nil {
		t.Errorf("a single target has no name in its steps: %+v", one)
	}
}

// TestBakeLinkedTargets: a target is the base image of another, and is no image itself afterwards.
func TestBakeLinkedTargets(t *testing.T) {
	p := newBakeProject(t)
	if got := p.run(t, NewBakeCommand, "--progress quiet linked"); got.Err != nil || got.Stderr != "" {
		t.Fatalf("%+v", got)
	}
	img, err := p.Images.Find(t.Context(), "linked:1")
	if err != nil || len(img.Chain()) != 2 {
		t.Fatalf("%+v, %v", img, err)
	}
	images, err := p.Images.List(t.Context())
	if len(images) != 1 || err != nil {
		t.Errorf("%d images, %v", len(images), err)
	}
	if left, err := os.ReadDir(filepath.Join(p.Store.Root(), "tmp")); len(left) > 0 || err != nil {
		t.Errorf("temporary directories are left: %v, %v", left, err)
	}
	if got := p.run(t, NewBakeCommand, "--set helper.target=nosuch linked"); commandtest.Text(got.Err) == "" || !strings.Contains(got.Err.Error(), "target helper: ") {
		t.Errorf("%+v", got)
	}
}

func TestBakeCalls(t *testing.T) {
	p := newBakeProject(t)
	clean := "Check complete, no warnings found.\n"
	if got := p.run(t, NewBakeCommand, "--check"); got.Stdout != "db\n\n"+clean+"\nweb\nthe web\n\n"+clean || got.Err != nil {
		t.Errorf("%+v", got)
	}
	got := p.run(t, NewBakeCommand, "--check --set web.dockerfile=lint.Dockerfile")
	var exit *command.ExitError
	if !errors.As(got.Err, &exit) || exit.Code != 1 || !strings.HasPrefix(got.Stdout, "db\n\n"+clean+"\nweb\nthe web\n\nCheck complete, 2 warnings have been found!\n") {
		t.Errorf("%+v", got)
	}
	got = p.run(t, NewBakeCommand, "--call targets,format=json db")
	var out struct {
		Target map[string]struct {
			Build   struct{ Target, Call string }
			Targets struct{ Targets []struct{ Name string } }
		}
	}
	if err := json.Unmarshal([]byte(got.Stdout), &out); err != nil || got.Err != nil {
		t.Fatalf("%v, %+v", err, got)
	}
	if db := out.Target["db"]; db.Build.Target != "base" || db.Build.Call != "targets" || len(db.Targets.Targets) != 2 {
		t.Errorf("%+v", out)
	}
}

func TestBakeFails(t *testing.T) {
	p := newBakeProject(t)
	outside := t.TempDir()
	for args, want := range map[string]string{
		"nosuch":                                 "failed to find target nosuch",
		"--print --list targets":                 "--print and --list are mutually exclusive",
		"--list nosuch":                          `invalid list type "nosuch": use targets or variables`,
		"https://h/x.git db":                     "bake files of https://h/x.git: remote bake files are not supported",
		"--var TAG db":                           `invalid variable "TAG", expected key=value`,
		"-f nosuch.hcl db":                       "open nosuch.hcl: no such file or directory",
		"--metadata-file no/such db":             "--metadata-file no/such: no such directory: no",
		"--progress loud db":                     `invalid progress mode "loud": use auto, plain, tty, quiet or rawjson`,
		"--call dance db":                        `unknown call "dance": use build, check, outline or targets`,
		"--allow nosuch db":                      `unknown entitlement key "nosuch"`,
		"--set db.contexts.x=" + outside + " db": "additional privileges requested: pass --allow=fs.read=" + outside + " to grant them",
	} {
		got := p.run(t, NewBakeCommand, args)
		if !strings.HasPrefix(commandtest.Text(got.Err), want) || got.Stdout != "" {
			t.Errorf("%s: %v, want %q", args, got.Err, want)
		}
	}
	got := p.run(t, NewBakeCommand, "--progress plain --set web.dockerfile=bad.Dockerfile web")
	if want := "failed to build: bad.Dockerfile:2: target web: failed to solve: "; !strings.HasPrefix(commandtest.Text(got.Err), want) || !strings.Contains(got.Stderr, "   2 | >>> COPY nosuch /\n") {
		t.Errorf("%+v", got)
	}
}

// TestBakeFromStdin: the file may come from stdin, and a variable from the environment.
func TestBakeFromStdin(t *testing.T) {
	p := newBakeProject(t)
	t.Setenv("TAG", "env")
	if err := os.Remove("docker-bake.hcl"); err != nil {
		t.Fatal(err)
	}
	got := p.RunWith(t.Context(), strings.NewReader(bakeFile), NewBakeCommand, "-f", "-", "--progress", "quiet", "web")
	if got.Err != nil {
		t.Fatalf("%+v", got)
	}
	if _, err := p.Images.Find(t.Context(), "web:env"); err != nil {
		t.Error(err)
	}
	t.Setenv("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "1")
	got = p.RunWith(t.Context(), strings.NewReader(bakeFile), NewBakeCommand, "-f", "-", "--print", "web")
	if !strings.Contains(got.Stdout, `"web:1"`) || got.Err != nil {
		t.Errorf("%+v", got)
	}
	if got := p.run(t, NewBakeCommand, ""); got.Err == nil || got.Stdout != "" {
		t.Errorf("without a file: %+v", got)
	}
}
