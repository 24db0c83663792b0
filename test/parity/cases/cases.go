//go:build e2e

// Package cases reads the Dockerfiles of test/parity, their contexts and options, for the tests that build them.
package cases

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/test/rig"
)

// Case is a Dockerfile with its context, and what both builders are told.
type Case struct {
	Dir        string
	Dockerfile string
	URL        string   // of the context, in place of Dir
	Args       []string // for mica
	Opts       []string // for BuildKit's front end
	PeerArgs   []string // for buildctl
	Attrs      []string // of the output
	Env        []string
	Call       string // in place of a build
	Fails      bool
	Line       string // that both must name when they refuse, "0" for none
}

// Servers are where cases have files and images from.
type Servers struct {
	Web      *Web
	Registry string
}

// Files returns the paths of all cases.
func Files(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(rig.Top(), "test/parity/testdata/*/*.txtar"))
	if err != nil || len(files) < 250 {
		t.Fatalf("%d cases: %v", len(files), err)
	}
	return files
}

// Name is what a case is called by its path: its directory and its file.
func Name(file string) string {
	group, name := filepath.Split(strings.TrimSuffix(file, ".txtar"))
	return filepath.Base(group) + "/" + name
}

// InputTime is when the first case's context was last changed. Every case has a time of its own: BuildKit takes files of
// the same name, size and time for equal, in whatever context it met them.
var InputTime = time.Date(2022, 2, 3, 4, 5, 6, 0, time.UTC)

// Read unpacks a case below top: its files, what its setup.sh makes of them, and its options. In all of them $HTTP is where the
// directory www is served, and $REGISTRY is the registry that has the base image.
func Read(t *testing.T, file, top string, number int, servers Servers) *Case {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := &Case{Dir: filepath.Join(top, "context"), Dockerfile: "Dockerfile"}
	if err := os.Mkdir(c.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	known := strings.NewReplacer("$HTTP", servers.Web.serve(filepath.Join(top, "www")), "$REGISTRY", servers.Registry)
	for _, f := range a.Files {
		path := filepath.Join(c.Dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(known.Replace(string(f.Data))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	finish := `[ ! -f setup.sh ] || { . ./setup.sh; rm setup.sh; }; find . -newermt 2023-01-01 -exec touch -h -d @` +
		fmt.Sprint(InputTime.Unix()+int64(number)*60) + ` {} +; [ ! -d www ] || mv www ..`
	if out, err := exec.Command("sh", "-ec", "cd "+c.Dir+"; "+finish).CombinedOutput(); err != nil {
		t.Fatalf("setup: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(a.Comment)) {
		c.option(t, known.Replace(strings.TrimSpace(line)))
	}
	return c
}

// option reads a line of a case's comment.
func (c *Case) option(t *testing.T, line string) {
	t.Helper()
	word, value, _ := strings.Cut(line, " ")
	both := func(flag, opt string) {
		c.Args = append(c.Args, flag, value)
		c.Opts = append(c.Opts, opt)
	}
	switch word {
	case "arg":
		both("--build-arg", "build-arg:"+value)
	case "epoch":
		value = "SOURCE_DATE_EPOCH=" + value
		both("--build-arg", "build-arg:"+value)
	case "label":
		both("--label", "label:"+value)
	case "target", "ulimit", "cgroup-parent", "shm-size", "platform":
		both("--"+word, word+"="+value)
	case "no-cache-filter":
		both("--no-cache-filter", "no-cache="+value)
	case "add-host":
		both("--add-host", "add-hosts="+strings.Replace(value, ":", "=", 1))
	case "network":
		both("--network", "force-network-mode="+value)
		if value == "host" {
			c.PeerArgs = append(c.PeerArgs, "--allow", "network.host")
		}
	case "allow":
		c.Args = append(c.Args, "--allow", value)
		c.PeerArgs = append(c.PeerArgs, "--allow", value)
	case "secret", "ssh":
		value = strings.NewReplacer("src=", "src="+c.Dir+"/", "default=", "default="+c.Dir+"/").Replace(value)
		c.Args = append(c.Args, "--"+word, value)
		c.PeerArgs = append(c.PeerArgs, "--"+word, value)
	case "env":
		c.Env = append(c.Env, value)
	case "build-context":
		c.context(t, value)
	case "annotation":
		c.Args = append(c.Args, "--annotation", value)
		kind, key, ok := strings.Cut(value, ":")
		if !ok {
			kind, key = "manifest", value
		}
		c.PeerArgs = append(c.PeerArgs, "annotation-"+kind+"."+key)
		c.annotate()
	case "attest":
		kind, rest, _ := strings.Cut(strings.TrimPrefix(value, "type="), ",")
		both("--attest", "attest:"+kind+"="+rest)
	case "attr":
		c.Attrs = append(c.Attrs, value)
	case "call":
		c.Call = value
	case "file":
		c.Dockerfile = value
	case "context":
		c.URL = value
	case "fails":
		c.Fails, c.Line = true, value
	case "":
	default:
		t.Fatalf("unknown option %q", line)
	}
}

// annotate moves the last of the peer's arguments to the attributes of its output, which mica has as flags.
func (c *Case) annotate() {
	last := len(c.PeerArgs) - 1
	c.Attrs, c.PeerArgs = append(c.Attrs, c.PeerArgs[last]), c.PeerArgs[:last]
}

// context is a named one: a directory of the context, an OCI layout there, or an image.
func (c *Case) context(t *testing.T, value string) {
	t.Helper()
	name, at, _ := strings.Cut(value, "=")
	switch {
	case strings.HasPrefix(at, "oci-layout://"):
		dir := filepath.Join(c.Dir, strings.TrimPrefix(at, "oci-layout://"))
		data, err := os.ReadFile(filepath.Join(dir, "index.json"))
		var index struct{ Manifests []struct{ Digest string } }
		if err == nil {
			err = json.Unmarshal(data, &index)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Args = append(c.Args, "--build-context", name+"=oci-layout://"+dir)
		c.PeerArgs = append(c.PeerArgs, "--oci-layout", name+"="+dir)
		c.Opts = append(c.Opts, "context:"+name+"=oci-layout://"+name+"@"+index.Manifests[0].Digest)
	case strings.Contains(at, "://"):
		c.Args = append(c.Args, "--build-context", value)
		c.Opts = append(c.Opts, "context:"+value)
	default:
		c.Args = append(c.Args, "--build-context", name+"="+filepath.Join(c.Dir, at))
		c.PeerArgs = append(c.PeerArgs, "--local", name+"="+filepath.Join(c.Dir, at))
		c.Opts = append(c.Opts, "context:"+name+"=local:"+name)
	}
}
