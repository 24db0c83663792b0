//go:build e2e

package parity

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

// testCase is a Dockerfile with its context, and what both builders are told.
type testCase struct {
	dir        string
	dockerfile string
	url        string   // of the context, in place of dir
	args       []string // for mica
	opts       []string // for BuildKit's front end
	peerArgs   []string // for buildctl
	attrs      []string // of the output
	env        []string
	call       string // in place of a build
	ownBase    bool   // base has no meaning
	fails      bool
	line       string // that both must name when they refuse, "0" for none
	web        string // the URL of the case's directory www
}

// inputTime is when the first case's context was last changed. Every case has a time of its own: BuildKit takes files of
// the same name, size and time for equal, in whatever context it met them.
var inputTime = time.Date(2022, 2, 3, 4, 5, 6, 0, time.UTC)

// readCase unpacks a case: its files, what its setup.sh makes of them, and its options. In all of them $HTTP is where the
// directory www is served, and $REGISTRY is the registry that has the base image.
func readCase(t *testing.T, file string, number int) *testCase {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	top := rig.TempDir(t)
	c := &testCase{dir: filepath.Join(top, "context"), dockerfile: "Dockerfile"}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c.web = peer.web.serve(filepath.Join(top, "www"))
	known := strings.NewReplacer("$HTTP", c.web, "$REGISTRY", peer.registry.Addr)
	for _, f := range a.Files {
		path := filepath.Join(c.dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(known.Replace(string(f.Data))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	finish := `[ ! -f setup.sh ] || { . ./setup.sh; rm setup.sh; }; find . -newermt 2023-01-01 -exec touch -h -d @` +
		fmt.Sprint(inputTime.Unix()+int64(number)*60) + ` {} +; [ ! -d www ] || mv www ..`
	if out, err := exec.Command("sh", "-ec", "cd "+c.dir+"; "+finish).CombinedOutput(); err != nil {
		t.Fatalf("setup: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(a.Comment)) {
		c.option(t, known.Replace(strings.TrimSpace(line)))
	}
	return c
}

// option reads a line of a case's comment.
func (c *testCase) option(t *testing.T, line string) {
	t.Helper()
	word, value, _ := strings.Cut(line, " ")
	both := func(flag, opt string) {
		c.args = append(c.args, flag, value)
		c.opts = append(c.opts, opt)
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
			c.peerArgs = append(c.peerArgs, "--allow", "network.host")
		}
	case "allow":
		c.args = append(c.args, "--allow", value)
		c.peerArgs = append(c.peerArgs, "--allow", value)
	case "secret", "ssh":
		value = strings.NewReplacer("src=", "src="+c.dir+"/", "default=", "default="+c.dir+"/").Replace(value)
		c.args = append(c.args, "--"+word, value)
		c.peerArgs = append(c.peerArgs, "--"+word, value)
	case "env":
		c.env = append(c.env, value)
	case "build-context":
		c.context(t, value)
	case "annotation":
		c.args = append(c.args, "--annotation", value)
		kind, key, ok := strings.Cut(value, ":")
		if !ok {
			kind, key = "manifest", value
		}
		c.peerArgs = append(c.peerArgs, "annotation-"+kind+"."+key)
		c.annotate()
	case "attest":
		kind, rest, _ := strings.Cut(strings.TrimPrefix(value, "type="), ",")
		both("--attest", "attest:"+kind+"="+rest)
	case "attr":
		c.attrs = append(c.attrs, value)
	case "call":
		c.call = value
	case "file":
		c.dockerfile = value
	case "context":
		c.url = value
	case "fails":
		c.fails, c.line = true, value
	case "":
	default:
		t.Fatalf("unknown option %q", line)
	}
}

// annotate moves the last of the peer's arguments to the attributes of its output, which mica has as flags.
func (c *testCase) annotate() {
	last := len(c.peerArgs) - 1
	c.attrs, c.peerArgs = append(c.attrs, c.peerArgs[last]), c.peerArgs[:last]
}

// context is a named one: a directory of the context, an OCI layout there, or an image.
func (c *testCase) context(t *testing.T, value string) {
	t.Helper()
	name, at, _ := strings.Cut(value, "=")
	switch {
	case strings.HasPrefix(at, "oci-layout://"):
		dir := filepath.Join(c.dir, strings.TrimPrefix(at, "oci-layout://"))
		data, err := os.ReadFile(filepath.Join(dir, "index.json"))
		var index struct{ Manifests []struct{ Digest string } }
		if err == nil {
			err = json.Unmarshal(data, &index)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.args = append(c.args, "--build-context", name+"=oci-layout://"+dir)
		c.peerArgs = append(c.peerArgs, "--oci-layout", name+"="+dir)
		c.opts = append(c.opts, "context:"+name+"=oci-layout://"+name+"@"+index.Manifests[0].Digest)
	case strings.Contains(at, "://"):
		c.args = append(c.args, "--build-context", value)
		c.opts = append(c.opts, "context:"+value)
	default:
		c.args = append(c.args, "--build-context", name+"="+filepath.Join(c.dir, at))
		c.peerArgs = append(c.peerArgs, "--local", name+"="+filepath.Join(c.dir, at))
		c.opts = append(c.opts, "context:"+name+"=local:"+name)
	}
}
