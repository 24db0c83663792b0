package registrycmd

import (
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestPull: the lines are docker's.
func TestPull(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	latest, layer := f.putImage(t, "app", "latest", "x")
	second, other := f.putImage(t, "app", "2", "y")
	const pull = "Pulling from app\n"
	f.test(t, NewPullCommand, "REG/app", outcome{
		out:    "Digest: " + latest + "\nStatus: Downloaded newer image for REG/app:latest\nREG/app:latest\n",
		stderr: sorted("Using default tag: latest\n", "latest: "+pull, layer+": Pulling fs layer\n", layer+": Pull complete\n"),
	})
	f.test(t, NewPullCommand, "REG/app:latest", outcome{
		out:    "Digest: " + latest + "\nStatus: Image is up to date for REG/app:latest\nREG/app:latest\n",
		stderr: sorted("latest: "+pull, layer+": Pulling fs layer\n", layer+": Already exists\n"),
	})
	f.test(t, NewPullCommand, "-q REG/app:2", outcome{out: "REG/app:2\n"})
	f.test(t, NewPullCommand, "REG/app@"+second, outcome{
		out:    "Digest: " + second + "\nStatus: Image is up to date for REG/app@" + second + "\nREG/app@" + second + "\n",
		stderr: sorted(second+": "+pull, other+": Pulling fs layer\n", other+": Already exists\n"),
	})
	f.test(t, NewPullCommand, "--quiet docker://REG/app", outcome{out: "REG/app:latest\n"})
}

func TestPullAllTags(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one, _ := f.putImage(t, "app", "1", "x")
	two, _ := f.putImage(t, "app", "2", "y")
	want := "Digest: " + one + "\nStatus: Downloaded newer image for REG/app:1\nREG/app:1\nDigest: " + two +
		"\nStatus: Downloaded newer image for REG/app:2\nREG/app:2\n"
	if got := f.run(NewPullCommand, "-a REG/app"); got.out != want || got.err != "" {
		t.Errorf("%+v, want %q", got, want)
	}
	if got := f.run(NewPullCommand, "-a -q REG/app"); got.out != "REG/app:1\nREG/app:2\n" || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}

func TestPullPlatforms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	index, _, _ := f.reg.PutPlatforms("app", "1")
	for args, layers := range map[string]int{"REG/app:1": 2, "--platform linux/" + registrytest.OtherArch() + " REG/app:1": 2, "--platform all REG/app:1": 4} {
		got := f.run(NewPullCommand, args)
		if !strings.HasPrefix(got.out, "Digest: "+index.Digest+"\n") || strings.Count(got.stderr, ": Pulling fs layer\n") != layers {
			t.Errorf("%s: %+v, want %d layers", args, got, layers)
		}
	}
	f.fails(t, NewPullCommand, map[string]string{
		"--platform linux/s390x REG/app:1": "REG/app:1: no matching manifest for linux/s390x in the manifest list entries: it has [linux/" + runtime.GOARCH + " linux/" + registrytest.OtherArch() + "]",
		"--platform a/b/c/d REG/app:1":     `invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`,
	})
}

func TestPullFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.putImage(t, "app", "1", "x")
	f.fails(t, NewPullCommand, map[string]string{
		"REG/nosuch":            "manifest for REG/nosuch:latest not found: manifest unknown",
		"REG/app:2":             "manifest for REG/app:2 not found: manifest unknown",
		"-a REG/app:1":          "tag can't be used with --all-tags/-a",
		"A":                     badName,
		"REG/app@sha256:abc":    `invalid reference format: "REG/app@sha256:abc": invalid reference format`,
		"--all-tags -q REG/a:b": "tag can't be used with --all-tags/-a",
	})
	f.reg.Misbehave(registrytest.Password("alice", "secret"))
	if got := f.run(NewPullCommand, "REG/app:1"); !strings.Contains(got.err, "mica login REG") {
		t.Errorf("without credentials: %q", got.err)
	}
	f.reg.Misbehave(registrytest.On(http.MethodGet, registrytest.Blob, 1, 0, registrytest.Flip()))
	if got := f.run(NewPullCommand, "REG/app:1"); !strings.Contains(got.err, "digest") || got.out != "" {
		t.Errorf("a blob that is damaged: %+v", got)
	}
}

// TestPullRetries: a layer that is cut off is shown as such, and arrives.
func TestPullRetries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, layer := f.putImage(t, "app", "1", "x")
	cut := f.reg.Count(registrytest.On(http.MethodGet, registrytest.Blob, 1, 1, registrytest.Cut(3)))
	if got := f.run(NewPullCommand, "REG/app:1"); got.err != "" || !strings.Contains(got.stderr, layer+": Pull complete\n") || cut.Load() == 0 {
		t.Errorf("%+v, cut %d times", got, cut.Load())
	}
}

func TestTagsAndCatalog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.reg.Page = 1
	for _, tag := range []string{"b", "a", "c"} {
		f.putImage(t, "team/app", tag, tag)
	}
	f.putImage(t, "other", "1", "x")
	f.test(t, NewTagsCommand, "REG/team/app", outcome{out: "a\nb\nc\n"})
	f.test(t, NewTagsCommand, "REG/team/app:b", outcome{out: "a\nb\nc\n"})
	f.fails(t, NewTagsCommand, map[string]string{"A": badName})
	f.test(t, NewCatalogCommand, "REG", outcome{out: "other\nteam/app\n"})
	f.test(t, NewCatalogCommand, "http://REG/v2/", outcome{out: "other\nteam/app\n"})
	f.reg.Misbehave(registrytest.Always(registrytest.Status(http.StatusNotFound)))
	for _, got := range []outcome{f.run(NewCatalogCommand, "REG"), f.run(NewTagsCommand, "REG/team/app")} {
		if got.err == "" || got.out != "" {
			t.Errorf("%+v", got)
		}
	}
}
