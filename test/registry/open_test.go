//go:build e2e

package registry

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

func TestPushedImageComesBackUnchanged(t *testing.T) {
	addr := open(t)
	name := addr + "/team/app:1"
	c := newClient(t)
	c.build("one", name)
	id := c.inspect(name, "{{.Id}}")
	pushed := c.mustSay(`(?s)The push refers to repository \[`+addr+`/team/app\].*[0-9a-f]{12}: Pushed.*\n1: digest: sha256:[0-9a-f]{64} size: \d+\n$`, "push", name)
	d := digestIn(t, pushed)
	if got := crane(t, "digest", name); got != d {
		t.Errorf("pushed %s, the registry has %s", d, got)
	}
	crane(t, "validate", "--remote", name)

	other := newClient(t)
	other.mustSay(`(?s)1: Pulling from team/app\n.*[0-9a-f]{12}: Pull complete\n.*Digest: `+d+`\nStatus: Downloaded newer image for `+name+`\n`+name+`\n$`, "pull", name)
	if got := other.inspect(name, "{{.Id}}"); got != id {
		t.Errorf("pushed %s, pulled %s", id, got)
	}
	if got := other.inspect(name, "{{index .RepoDigests 0}}"); got != addr+"/team/app@"+d {
		t.Errorf("RepoDigests: %s", got)
	}
	if got := other.content(name, "made"); got != "one" {
		t.Errorf("it has %q", got)
	}
	other.mustSay(`(?s)Digest: `+d+`\nStatus: Image is up to date for `+name+`\n`, "pull", name)
	if out := other.Try(nil, "pull", "-q", name); out.Stdout != name+"\n" || out.Stderr != "" {
		t.Errorf("pull -q says %q, %q", out.Stdout, out.Stderr)
	}
	if out := c.Try(nil, "push", "-q", name); out.Stdout != name+"\n" || out.Stderr != "" {
		t.Errorf("push -q says %q, %q", out.Stdout, out.Stderr)
	}
	// What is there is said to be there: the same layers under another name.
	other.Run("rmi", name)
	third := newClient(t)
	third.mustSay(`(?s)Digest: `+d+`.*@`+d, "pull", addr+"/team/app@"+d)
	if got := third.inspect(addr+"/team/app@"+d, "{{.Id}}"); got != id {
		t.Errorf("by digest: %s, want %s", got, id)
	}
}

func TestMissingThingsAreNamed(t *testing.T) {
	addr := open(t)
	c := newClient(t)
	c.build("one", addr+"/app:1")
	c.Run("push", "-q", addr+"/app:1")
	c.refuses(`manifest for .*app:2 not found`, "pull", addr+"/app:2")
	c.refuses(`app@sha256:0+ not found`, "pull", addr+"/app@sha256:"+strings.Repeat("0", 64))
	c.refuses(`nothing`, "pull", addr+"/nothing")
	c.refuses(`nothing`, "tags", addr+"/nothing")
	c.refuses(`does not exist locally`, "push", addr+"/app:2")
	c.refuses(`cannot be reached|refused`, "pull", "127.0.0.1:1/app")
	c.refuses(`invalid reference|must be lowercase`, "pull", addr+"/APP")
	c.refuses(`compression`, "push", "--compression", "rar", addr+"/app:1")
	c.refuses(`compression|level`, "push", "--compression-level", "99", addr+"/app:1")
	c.refuses(`digest`, "push", addr+"/app@sha256:"+strings.Repeat("0", 64))
}

func TestTagsAndRepositoriesAreListedWhole(t *testing.T) {
	m := registrytest.New(t)
	m.Page = 3
	l := registrytest.Layer(t, "f", []byte("x"))
	var tags, repos []string
	for i := range 10 {
		tags = append(tags, fmt.Sprintf("v%d", i))
		repos = append(repos, fmt.Sprintf("team/app%d", i))
		m.PutImage("team/app0", tags[i], runtime.GOARCH, nil, l)
		m.PutImage(repos[i], "v0", runtime.GOARCH, nil, l)
	}
	c := newClient(t)
	if got := c.Run("tags", m.Name("team/app0")); got != strings.Join(tags, "\n")+"\n" {
		t.Errorf("tags: %q", got)
	}
	if got := c.Run("catalog", m.Addr); got != strings.Join(repos, "\n")+"\n" {
		t.Errorf("catalog: %q", got)
	}
	if n := len(m.Seen(registrytest.Tags)); n < 4 {
		t.Errorf("the tags came in %d pages", n)
	}
	c.Run("pull", "-q", "-a", m.Name("team/app0"))
	got := strings.Fields(c.Run("images", "--format", "{{.Tag}}", m.Name("team/app0")))
	if slices.Sort(got); !slices.Equal(got, tags) {
		t.Errorf("pull -a: %v", got)
	}
	c.refuses(`tag can't be used`, "pull", "-a", m.Name("team/app0:v1"))
}

func TestPushOfAllTags(t *testing.T) {
	addr := open(t)
	c := newClient(t)
	c.build("one", addr+"/app:1", addr+"/app:2", addr+"/other:3")
	got := c.mustSay(`(?s)1: digest: .*2: digest: `, "push", "-a", addr+"/app")
	if strings.Contains(got, "3: digest") {
		t.Errorf("pushes other repositories: %s", got)
	}
	tags := strings.Fields(crane(t, "ls", addr+"/app"))
	if slices.Sort(tags); !slices.Equal(tags, []string{"1", "2"}) {
		t.Errorf("the registry has %v", tags)
	}
}
