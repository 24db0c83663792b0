//go:build e2e

package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
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

func TestSharedLayersAreNotPulledTwice(t *testing.T) {
	m := newMemory(t)
	base := layer(t, "base", noise(100_000))
	m.image("base", "1", here(), nil, base)
	m.image("app", "1", here(), nil, base, layer(t, "made", []byte("app")))
	c := newClient(t)
	c.Run("pull", "-q", m.name("base:1"))
	m.Behave()
	c.mustSay(rig.Sum(zipped(t, base))[:12]+`: Already exists`, "pull", m.name("app:1"))
	if got := m.SeenBy("GET", rig.Blob); len(got) != 2 { // the config and the other layer
		t.Errorf("asked for %v", got)
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
	c.refuses(`digest`, "push", addr+"/app@sha256:"+strings.Repeat("0", 64))
}

func TestSecondPushUploadsNothing(t *testing.T) {
	m := newMemory(t)
	c := newClient(t)
	c.build("one", m.name("app:1"))
	first := digestIn(t, c.says("push", m.name("app:1")))
	if len(m.SeenBy("POST", rig.Upload)) == 0 {
		t.Fatal("the first push uploads nothing")
	}
	m.Behave()
	again := c.mustSay(`[0-9a-f]{12}: Layer already exists`, "push", m.name("app:1"))
	if got := digestIn(t, again); got != first {
		t.Errorf("first %s, then %s", first, got)
	}
	if got := append(m.SeenBy("POST"), m.SeenBy("PATCH")...); len(got) != 0 {
		t.Errorf("uploads again: %v", got)
	}
	// The registry has lost a layer: it is sent again.
	doc := m.Manifest("app", "1")
	var parsed rig.Contents
	if err := json.Unmarshal(doc.Data, &parsed); err != nil {
		t.Fatal(err)
	}
	m.DropBlob("app", parsed.Layers[0].Digest)
	c.says("push", m.name("app:1"))
	if m.Blob("app", parsed.Layers[0].Digest) == nil {
		t.Error("a layer that the registry has lost is not sent again")
	}
}

func TestOtherRepositoryIsMountedFrom(t *testing.T) {
	m := newMemory(t)
	c := newClient(t)
	c.build("one", m.name("app:1"), m.name("team/app:1"))
	first := digestIn(t, c.says("push", m.name("app:1")))
	m.Behave()
	got := c.mustSay(`[0-9a-f]{12}: Mounted from app`, "push", m.name("team/app:1"))
	if digestIn(t, got) != first {
		t.Errorf("%s, want digest %s", got, first)
	}
	mounts := 0
	for _, r := range m.SeenBy("POST", rig.Upload) {
		if strings.Contains(r.Path, "mount=") && strings.Contains(r.Path, "from=app") && r.Status == 201 {
			mounts++
		}
	}
	if mounts < 2 {
		t.Errorf("%d mounts: %v", mounts, m.Seen(rig.Upload))
	}
	// A registry that mounts nothing begins an upload instead.
	m.Misbehave(func(r rig.Request) rig.Fault {
		if r.Method == http.MethodPost && strings.Contains(r.Path, "mount=") {
			return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				req.URL.RawQuery = ""
				next.ServeHTTP(w, req)
			}
		}
		return nil
	})
	c.Run("tag", m.name("app:1"), m.name("third:1"))
	if got := digestIn(t, c.says("push", m.name("third:1"))); got != first {
		t.Errorf("%s, want digest %s", got, first)
	}
	crane(t, "validate", "--remote", m.name("third:1"))
}

func TestCompressionIsWhatWasAskedFor(t *testing.T) {
	m := newMemory(t)
	c := newClient(t)
	c.build("one", m.name("app:1"))
	magic := map[string]string{"gzip": "\x1f\x8b", "zstd": "\x28\xb5\x2f\xfd", "none": "ustar\x00"}
	types := map[string]string{"gzip": rig.TypeLayer + "+gzip", "zstd": rig.TypeLayer + "+zstd", "none": rig.TypeLayer}
	for how := range magic {
		name := m.name(how + ":1")
		c.Run("tag", m.name("app:1"), name)
		c.Run("push", "-q", "--compression", how, name)
		var manifest rig.Contents
		if err := json.Unmarshal(m.Manifest(how, "1").Data, &manifest); err != nil {
			t.Fatal(err)
		}
		l := manifest.Layers[0]
		if data := m.Blob(how, l.Digest); l.MediaType != types[how] || !strings.Contains(string(data[:min(len(data), 512)]), magic[how]) {
			t.Errorf("%s: %s, begins with %q", how, l.MediaType, data[:min(len(data), 300)])
		}
		other := newClient(t)
		other.Run("pull", "-q", name)
		if got := other.content(name, "made"); got != "one" || other.inspect(name, "{{.Id}}") != c.inspect(name, "{{.Id}}") {
			t.Errorf("%s: pulled %q", how, got)
		}
	}
	// Pulled with one compression, it is pushed with another only by force.
	other := newClient(t)
	other.Run("pull", "-q", m.name("gzip:1"))
	other.Run("tag", m.name("gzip:1"), m.name("again:1"))
	kept := digestIn(t, other.says("push", "--compression", "zstd", m.name("again:1")))
	forced := digestIn(t, other.says("push", "--compression", "zstd", "--force-compression", m.name("again:1")))
	if kept != rig.Digest(m.Manifest("gzip", "1").Data) || forced == kept {
		t.Errorf("kept %s, forced %s", kept, forced)
	}
	small := digestIn(t, other.says("push", "--compression-level", "9", "--force-compression", m.name("again:1")))
	if fast := digestIn(t, other.says("push", "--compression-level", "1", "--force-compression", m.name("again:1"))); fast == small {
		t.Error("--compression-level changes nothing")
	}
	c.refuses(`compression`, "push", "--compression", "rar", m.name("app:1"))
	c.refuses(`compression|level`, "push", "--compression-level", "99", m.name("app:1"))
}

func TestTagsAndRepositoriesAreListedWhole(t *testing.T) {
	m := newMemory(t)
	m.Page = 3
	l := layer(t, "f", []byte("x"))
	var tags, repos []string
	for i := range 10 {
		tags = append(tags, fmt.Sprintf("v%d", i))
		repos = append(repos, fmt.Sprintf("team/app%d", i))
		m.image("team/app0", tags[i], here(), nil, l)
		m.image(repos[i], "v0", here(), nil, l)
	}
	c := newClient(t)
	if got := c.Run("tags", m.name("team/app0")); got != strings.Join(tags, "\n")+"\n" {
		t.Errorf("tags: %q", got)
	}
	if got := c.Run("catalog", m.Addr); got != strings.Join(repos, "\n")+"\n" {
		t.Errorf("catalog: %q", got)
	}
	if n := len(m.Seen(rig.Tags)); n < 4 {
		t.Errorf("the tags came in %d pages", n)
	}
	c.Run("pull", "-q", "-a", m.name("team/app0"))
	got := strings.Fields(c.Run("images", "--format", "{{.Tag}}", m.name("team/app0")))
	if slices.Sort(got); !slices.Equal(got, tags) {
		t.Errorf("pull -a: %v", got)
	}
	c.refuses(`tag can't be used`, "pull", "-a", m.name("team/app0:v1"))
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
