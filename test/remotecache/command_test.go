//go:build e2e

package remotecache

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// commandCase has a stage that is only copied from, mounts, and a directory: what is not needed is not to be fetched.
const commandCase = `
-- Dockerfile --
FROM base AS build
RUN head -c 300000 /dev/urandom >/heavy
COPY src /src
RUN --mount=type=bind,source=src,target=/bound date >/stamp; cat /bound/a >/out
FROM base
WORKDIR /app
COPY --from=build /out ./
RUN echo final >final
-- src/a --
a
-- src/b --
b
`

var (
	micaStep   = regexp.MustCompile(`(?m)^#(\d+) (\[(?:[^ ]+ )? *\d+/\d+\] (?:RUN|COPY|WORKDIR).*)$`)
	micaCached = regexp.MustCompile(`(?m)^#(\d+) CACHED$`)
)

// ran returns the steps that mica ran, by its plain progress.
func ran(t *testing.T, out rig.Output) []string {
	t.Helper()
	return ranOf(t, out, 5)
}

// ranOf is ran for a Dockerfile with so many steps at least.
func ranOf(t *testing.T, out rig.Output, steps int) []string {
	t.Helper()
	if out.Code != 0 {
		t.Fatalf("mica: %s", out.Stderr)
	}
	cached := map[string]bool{}
	for _, m := range micaCached.FindAllStringSubmatch(out.Stderr, -1) {
		cached[m[1]] = true
	}
	named := micaStep.FindAllStringSubmatch(out.Stderr, -1)
	if len(named) < steps {
		t.Fatalf("mica names %d steps:\n%s", len(named), out.Stderr)
	}
	var list []string
	seen := map[string]bool{} // the display names a step again when it has shown another
	for _, m := range named {
		if !cached[m[1]] && !seen[m[1]] {
			list = append(list, m[2])
		}
		seen[m[1]] = true
	}
	return list
}

// mica builds c in a new store.
func (c *dockerfile) mica(t *testing.T, args ...string) (*rig.Mica, rig.Output) {
	t.Helper()
	m := rig.NewMica(t)
	args = append([]string{"build", "--progress", "plain", "--build-context", "base=docker-image://" + peer.registry.Addr + "/base:latest"}, args...)
	return m, m.Try(nil, append(args, c.dir)...)
}

// TestCommand exchanges caches through a real registry and through directories, in both directions.
func TestCommand(t *testing.T) {
	for i, name := range []string{"image", "index", "local", "image of estargz", "local of estargz"} {
		t.Run(name, func(t *testing.T) {
			kind, algorithm, _ := strings.Cut(name, " of ")
			c := unpack(t, txtar.Parse([]byte(commandCase)))
			dir := rig.TempDir(t)
			place := func(who, direction string) string {
				if kind == "local" {
					return fmt.Sprintf("type=local,%s=%s", map[string]string{"to": "dest", "from": "src"}[direction], filepath.Join(dir, who))
				}
				return fmt.Sprintf("type=registry,ref=%s/command%d:%s,registry.insecure=true", peer.registry.Addr, i, who)
			}
			form := fmt.Sprintf(",mode=max,image-manifest=%t", kind != "index")
			if algorithm != "" {
				form += ",force-compression=true,compression=" + algorithm
			}

			_, out := c.mica(t, "--cache-to", place("mica", "to")+form)
			if list := ran(t, out); len(list) != 6 {
				t.Errorf("in an empty store mica ran %q", list)
			}
			prune(t)
			if list := c.uncached(t, "--import-cache", place("mica", "from")); len(list) > 0 {
				t.Errorf("BuildKit ran %q, with mica's cache", list)
			}

			prune(t)
			c.buildkit(t, "--export-cache", place("buildkit", "to")+form)
			m, out := c.mica(t, "--cache-from", place("buildkit", "from"), "-t", "found")
			if list := ran(t, out); len(list) > 0 {
				t.Errorf("mica ran %q, with BuildKit's cache", list)
			}
			if got := m.Run("run", "--rm", "found", "sh", "-c", "cat /app/out /app/final"); got != "a\nfinal\n" {
				t.Errorf("what was found holds %q", got)
			}
		})
	}
}

// TestCommandInline: an image is its own cache, whoever made it. It has no results of other stages, which need not run for that.
func TestCommandInline(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(commandCase)))
	name := peer.registry.Addr + "/inline:"
	if _, out := c.mica(t, "--cache-to", "type=inline", "--push", "-t", name+"mica"); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	prune(t)
	c.buildkit(t, "--export-cache", "type=inline", "--output", "type=image,push=true,registry.insecure=true,name="+name+"buildkit")
	for _, who := range []string{"mica", "buildkit"} {
		m, out := c.mica(t, "--cache-from", name+who, "-t", "found")
		if list := ran(t, out); len(list) > 0 {
			t.Errorf("with the image of %s, mica ran %q", who, list)
		}
		if got := m.Run("run", "--rm", "found", "sh", "-c", "cat /app/out /app/final"); got != "a\nfinal\n" {
			t.Errorf("what was found holds %q", got)
		}
	}
}

// TestStagesOfInlineCache: a stage without results runs where its definition or its files are others than the cache's, and what is
// made of the same files is found all the same.
func TestStagesOfInlineCache(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(commandCase)))
	name := peer.registry.Addr + "/inline-stages:"
	if _, out := c.mica(t, "--cache-to", "type=inline", "--push", "-t", name+"first"); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	check := func(what string, want []string, args ...string) *rig.Mica {
		t.Helper()
		m, out := c.mica(t, append([]string{"--cache-from", name + "first"}, args...)...)
		if list := ran(t, out); !slices.Equal(list, want) {
			t.Errorf("%s: mica ran %q, want %q", what, list, want)
		}
		return m
	}
	stage := []string{
		"[build 1/4] RUN head -c 300000 /dev/urandom >/heavy",
		"[build 2/4] COPY src /src",
		"[build 3/4] RUN --mount=type=bind,source=src,target=/bound date >/stamp; cat /bound/a >/out",
	}
	check("--no-cache-filter", stage, "--no-cache-filter", "build")

	// A store that has the steps of the stage takes its own; the next has a cache of all that was found.
	m := check("--cache-to", nil, "--cache-to", "type=inline", "--push", "-t", name+"second")
	if out := m.Try(nil, "build", "--progress", "plain", "--build-context", "base=docker-image://"+peer.registry.Addr+"/base:latest", c.dir); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if list := ran(t, m.Try(nil, "build", "--progress", "plain", "--build-context", "base=docker-image://"+peer.registry.Addr+"/base:latest",
		"--cache-from", name+"first", c.dir)); len(list) > 0 {
		t.Errorf("what the store has: mica ran %q", list)
	}
	if _, out := c.mica(t, "--cache-from", name+"second"); len(ran(t, out)) > 0 {
		t.Errorf("the second cache: mica ran %q", ran(t, out))
	}
	prune(t)
	if list := c.uncached(t, "--import-cache", "type=registry,registry.insecure=true,ref="+name+"second"); len(list) > 0 {
		t.Errorf("BuildKit ran %q, with the second cache", list)
	}

	must(t, os.WriteFile(filepath.Join(c.dir, "src", "b"), []byte("c\n"), 0o644))
	check("a file that the image does not have", stage)
	must(t, os.WriteFile(filepath.Join(c.dir, "src", "a"), []byte("d\n"), 0o644))
	m = check("a file of the image", append(stage, "[stage-1 2/4] COPY --from=build /out ./", "[stage-1 3/4] RUN echo final >final"), "-t", "changed")
	if got := m.Run("run", "--rm", "changed", "cat", "/app/out"); got != "d\n" {
		t.Errorf("with a changed file, the image holds %q", got)
	}
}

// TestCommandWithoutCache: a cache that is not there is no reason to fail, one that cannot be written is.
func TestCommandWithoutCache(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(commandCase)))
	for _, from := range []string{peer.registry.Addr + "/nothing", "type=local,src=" + rig.TempDir(t), "127.0.0.1:1/x"} {
		if _, out := c.mica(t, "--cache-from", from); len(ran(t, out)) != 6 {
			t.Errorf("%s: %s", from, out.Stderr)
		}
	}
	if _, out := c.mica(t, "--cache-to", "127.0.0.1:1/x"); out.Code != 1 {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}
	if _, out := c.mica(t, "--cache-to", "type=registry,ref=127.0.0.1:1/x,ignore-error=true"); out.Code != 0 {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}
	for _, bad := range []string{"type=s3,nothing=x", "type=azblob,nothing=x", "type=registry", "type=local", "type=registry,ref=UPPER", "type=local,src=/x,mode=max"} {
		if _, out := c.mica(t, "--cache-from", bad); out.Code != 1 {
			t.Errorf("%s: exit code %d", bad, out.Code)
		}
	}
}

const oneStage = `
-- Dockerfile --
FROM base
WORKDIR /app
COPY src/a out
RUN echo final >final
-- src/a --
a
`

// downloaded lists the layers that were fetched through a proxy.
func downloaded(t *testing.T, proxy *registrytest.Proxy) (layers []string) {
	t.Helper()
	for _, r := range proxy.SeenBy("GET", registrytest.Blob) {
		resp, err := http.Get("http://" + peer.registry.Addr + r.Path)
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 2)
		_, err = io.ReadFull(resp.Body, head)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if string(head) == "\x1f\x8b" {
			layers = append(layers, r.Path)
		}
	}
	return layers
}

// TestRebuildWithoutBase: where the base image is gone and all steps are in the cache, its layers are not fetched again.
func TestRebuildWithoutBase(t *testing.T) {
	proxy := registrytest.NewProxy(t, registrytest.Forward(peer.registry.Addr))
	c := unpack(t, txtar.Parse([]byte(strings.Replace(oneStage, "FROM base", "FROM "+proxy.Addr+"/base", 1))))
	m := rig.NewMica(t)
	id := m.Run("build", "-q", "-t", "app", c.dir)
	m.Run("rmi", "app", proxy.Addr+"/base")
	m.Run("image", "prune", "-af")
	proxy.Behave()
	if again := m.Run("build", "-q", c.dir); again != id {
		t.Errorf("built again, the image is %s, want %s", again, id)
	}
	if layers := downloaded(t, proxy); len(layers) > 0 {
		t.Errorf("it downloads %q", layers)
	}
}

// TestPushOfCachedResult: what a registry has is pushed without being downloaded, be it in the repository already, in another one of
// the registry, or in a base image; only from another registry must it come through here.
func TestPushOfCachedResult(t *testing.T) {
	proxy := registrytest.NewProxy(t, registrytest.Forward(peer.registry.Addr))
	for _, who := range []string{"mica", "buildkit", "min of mica", "min of buildkit", "inline of mica", "inline of buildkit"} {
		t.Run(who, func(t *testing.T) {
			c := unpack(t, txtar.Parse([]byte(commandCase)))
			repo := "lazy-" + strings.ReplaceAll(who, " ", "-")
			ref := proxy.Addr + "/" + repo + ":cache"
			inline := strings.HasPrefix(who, "inline")
			prune(t)
			mode := "max"
			if strings.HasPrefix(who, "min") {
				mode = "min" // as inline: no results of other stages
			}
			switch to := "type=registry,mode=" + mode + ",registry.insecure=true,ref=" + ref; {
			case inline && strings.HasSuffix(who, "mica"):
				if _, out := c.mica(t, "--cache-to", "type=inline", "--push", "-t", ref); out.Code != 0 {
					t.Fatal(out.Stderr)
				}
			case inline:
				c.buildkit(t, "--export-cache", "type=inline", "--output", "type=image,push=true,registry.insecure=true,name="+ref)
			case strings.HasSuffix(who, "mica"):
				c.mica(t, "--cache-to", to)
			default:
				c.buildkit(t, "--export-cache", to)
			}
			proxy.Behave()
			if out := rig.NewMica(t).Try(nil, "build", "--build-context", "base=docker-image://"+proxy.Addr+"/base:latest",
				"--cache-from", "type=registry,ref="+ref, "-o", "type=cacheonly", c.dir); out.Code != 0 {
				t.Fatal(out.Stderr)
			}
			if layers := downloaded(t, proxy); len(layers) > 0 {
				t.Errorf("a build that makes nothing downloads %q", layers)
			}
			for _, to := range []string{repo + ":image", repo + "-other:image"} {
				proxy.Behave()
				m := rig.NewMica(t)
				out := m.Try(nil, "build", "--build-context", "base=docker-image://"+proxy.Addr+"/base:latest",
					"--cache-from", "type=registry,ref="+ref, "--push", "-t", proxy.Addr+"/"+to, c.dir)
				if out.Code != 0 {
					t.Fatal(out.Stderr)
				}
				if layers, sent := downloaded(t, proxy), proxy.SeenBy("PUT", registrytest.Upload); len(layers) > 0 || len(sent) > 1 { // a config
					t.Errorf("%s: downloads %q, uploads %v\n%s", to, layers, sent, out.Stderr)
				}
				if list := m.Run("images", "-aq"); list != "" {
					t.Errorf("%s: the store has image %s, without its layers", to, list)
				}
				if got := m.Run("run", "--rm", proxy.Addr+"/"+to, "sh", "-c", "cat /app/out /app/final"); got != "a\nfinal\n" {
					t.Errorf("%s holds %q", to, got)
				}
				if len(downloaded(t, proxy)) == 0 {
					t.Errorf("%s: a run of it downloads nothing", to)
				}
			}
		})
	}
	// From another registry it is sent on, once.
	c := unpack(t, txtar.Parse([]byte(oneStage)))
	ref := peer.registry.Addr + "/lazy-far:cache"
	if _, out := c.mica(t, "--cache-to", "type=registry,ref="+ref); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	proxy.Behave()
	m, out := c.mica(t, "--cache-from", "type=registry,ref="+ref, "--push", "-t", proxy.Addr+"/lazy-near:image")
	if out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if sent := proxy.SeenBy("PUT", registrytest.Upload); len(sent) != 4+1 {
		t.Errorf("uploads %v, want four layers and a config", sent)
	}
	if got := m.Run("run", "--rm", proxy.Addr+"/lazy-near:image", "cat", "/app/out", "/app/final"); got != "a\nfinal\n" {
		t.Errorf("what came from another registry holds %q", got)
	}
}
