//go:build e2e

// Package kaniko runs mica as Kaniko's executor: with its flags, on this host, against a registry.
package kaniko

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// executor is mica by Kaniko's name, with a registry that has a base image.
type executor struct {
	*rig.Mica
	dir, registry string
}

func newExecutor(t *testing.T) *executor {
	t.Helper()
	dir := rig.TempDir(t)
	reg, err := rig.StartRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Stop() })
	host := rig.NewMica(t)
	rig.ImportBusybox(t, host, reg.Addr+"/base:1")
	host.Run("push", reg.Addr+"/base:1")
	link := filepath.Join(dir, "executor")
	if err := os.Symlink(rig.Binary(t, "mica"), link); err != nil {
		t.Fatal(err)
	}
	return &executor{rig.At(t, link), dir, reg.Addr}
}

// fresh is the executor with an empty store, as in a new pod.
func (e *executor) fresh(t *testing.T) *executor {
	return &executor{rig.At(t, e.Path), e.dir, e.registry}
}

// context writes a build context. FROM BASE is the base image.
func (e *executor) context(t *testing.T, dockerfile string, files map[string]string) string {
	t.Helper()
	dir := rig.TempDir(t)
	files["Dockerfile"] = strings.ReplaceAll(dockerfile, "BASE", e.registry+"/base:1")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// digest returns the digest of an image at the registry.
func (e *executor) digest(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(rig.NewMica(t).Run("image", "inspect", "--remote", "--format", "{{.Descriptor.Digest}}", e.registry+"/"+name))
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const steps = "FROM BASE\nARG WHO\nRUN echo \"$WHO\" >/who && date +%N >/when\nCOPY f /f\nRUN cat /f /who >/both\n"

// The image is pushed to each destination, the files have its digest, and a build with the cache repository runs nothing again on an empty store.
func TestPush(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	context := e.context(t, steps, map[string]string{"f": "f"})
	out := rig.TempDir(t)
	args := []string{
		"--context", "dir://" + context, "--dockerfile=Dockerfile", "--destination", e.registry + "/app:1", "--destination=" + e.registry + "/other/app:2",
		"--cache=true", "--cache-repo=" + e.registry + "/cache", "--build-arg=WHO=me",
		"--digest-file=" + out + "/new/digest", "--image-name-with-digest-file=" + out + "/name", "--image-name-tag-with-digest-file=" + out + "/tagged",
		"--tar-path=" + out + "/app.tar", "--oci-layout-path=" + out + "/layout",
	}
	e.Run(args...)
	digest := e.digest(t, "app:1")
	if other := e.digest(t, "other/app:2"); other != digest {
		t.Errorf("the destinations have %s and %s", digest, other)
	}
	for file, want := range map[string]string{
		"new/digest": digest, "name": e.registry + "/app@" + digest + "\n" + e.registry + "/other/app@" + digest + "\n",
		"tagged": e.registry + "/app:1@" + digest + "\n" + e.registry + "/other/app:2@" + digest + "\n",
	} {
		if got := read(t, filepath.Join(out, file)); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if index := read(t, filepath.Join(out, "layout", "index.json")); !strings.Contains(index, digest) {
		t.Errorf("index.json: %s", index)
	}
	loaded := rig.NewMica(t)
	if got := loaded.Run("load", "-i", filepath.Join(out, "app.tar")); !strings.Contains(got, e.registry+"/app:1") || !strings.Contains(got, "other/app:2") {
		t.Errorf("load: %s", got)
	}
	again := e.fresh(t).Try(nil, args...)
	if again.Code != 0 || strings.Count(again.Stderr, "CACHED") < 3 || e.digest(t, "app:1") != digest {
		t.Errorf("again: exit code %d, digest %s, want %s\n%s", again.Code, e.digest(t, "app:1"), digest, again.Stderr)
	}
	if got := rig.Run(t, loaded.Command("run", "--pull=always", "--rm", e.registry+"/app:1", "cat", "/both")); got.Stdout != "fme\n" {
		t.Errorf("the image: %+v", got)
	}
}

// Where only the mirror of a registry can be reached, a build with everything cached takes the layers of its base image from there.
func TestCachedBehindMirror(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	context := e.context(t, "FROM gone.invalid/base:1\nRUN echo x >/x\n", map[string]string{})
	for i, name := range []string{"one", "two"} {
		target, err := rig.StartRegistry(rig.TempDir(t)) // without the layers
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = target.Stop() })
		out := e.fresh(t).Try(nil, "-c", context, "-d", target.Addr+"/"+name, "--cache", "--cache-repo="+e.registry+"/cache",
			"--registry-map=gone.invalid="+e.registry, "--skip-default-registry-fallback")
		if cached := strings.Contains(out.Stderr, "CACHED"); out.Code != 0 || cached != (i == 1) {
			t.Errorf("%s: exit code %d, cached %v\n%s", name, out.Code, cached, out.Stderr)
		}
	}
}

// The digest of a build that is not pushed is that of its push.
func TestDigestWithoutPush(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	context := e.context(t, "FROM BASE\nCOPY f /f\nRUN cp /f /g\n", map[string]string{"f": "f"})
	digests := map[string]bool{}
	for _, more := range [][]string{{"--no-push"}, {"--destination=" + e.registry + "/app"}} {
		file := filepath.Join(rig.TempDir(t), "digest")
		e.fresh(t).Run(append(more, "-c", context, "--reproducible", "--digest-file", file)...)
		digests[read(t, file)] = true
	}
	if len(digests) != 1 || !digests[e.digest(t, "app:latest")] {
		t.Errorf("digests %v, at the registry %s", digests, e.digest(t, "app:latest"))
	}
}

// Contexts have the same files in all of their forms.
func TestContexts(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	files := map[string]string{"sub/Dockerfile": "FROM scratch\nCOPY . /\n", "sub/f": "f", "sub/ignored": "x", "sub/.dockerignore": "ignored\n", "g": "g"}
	context := e.context(t, "FROM scratch\nCOPY g /\n", files)
	archive := filepath.Join(rig.TempDir(t), "context.tar.gz")
	rig.Must(t, "tar", "-C", context, "-czf", archive, ".")
	repositories := rig.TempDir(t)
	rig.Must(t, "sh", "-ec", `cp -r "$1" "$2/work"; cd "$2/work"; git init -q -b main; git config user.email a@b; git config user.name a
git add -A; git commit -qm one; git clone -q --bare . ../r.git`, "sh", context, repositories)
	server := httptest.NewServer(&cgi.Handler{
		Path: "/usr/lib/git-core/git-http-backend", Env: []string{"GIT_PROJECT_ROOT=" + repositories, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + repositories},
	})
	t.Cleanup(server.Close)
	git := "git://" + strings.TrimPrefix(server.URL, "http://") + "/r.git"
	stdin, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	for name, where := range map[string]string{
		"directory": context, "dir": "dir://" + context, "tar": "tar://" + archive, "stdin": "tar://stdin", "git": git, "branch": git + "#refs/heads/main",
	} {
		layout := filepath.Join(rig.TempDir(t), "files")
		m := e.fresh(t)
		m.Env = append(m.Env, "GIT_PULL_METHOD=http")
		m.RunIn(stdin, "--context="+where, "--context-sub-path=sub", "--no-push", "--oci-layout-path="+layout)
		list := strings.Join(strings.Fields(rig.Must(t, "sh", "-c", `for b in "$1"/blobs/sha256/*; do tar tzf "$b" 2>/dev/null; done; true`, "sh", layout)), " ")
		if list != ".dockerignore Dockerfile f" {
			t.Errorf("%s: the layer has %q", name, list)
		}
	}
}

// Mistakes, and processes that fail, have Kaniko's exit codes.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	good := e.context(t, "FROM BASE\nCOPY f /\n", map[string]string{"f": "f"})
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"RUN":              {[]string{"-c", e.context(t, "FROM BASE\nRUN exit 7\n", map[string]string{}), "--no-push"}, 7, "exit code: 7"},
		"Dockerfile":       {[]string{"-c", e.context(t, "FROM BASE\nWHAT\n", map[string]string{}), "--no-push"}, 1, "unknown instruction"},
		"no Dockerfile":    {[]string{"-c", good, "-f", "Other", "--no-push"}, 1, "please provide a valid path to a Dockerfile"},
		"no context":       {[]string{"-c", "tar:///no/such", "--no-push"}, 1, "no such file"},
		"not an archive":   {[]string{"-c", "tar://" + filepath.Join(good, "f"), "--no-push"}, 1, "is not an archive"},
		"outside":          {[]string{"-c", good, "--context-sub-path=..", "--no-push"}, 1, "outside of the context"},
		"unknown flag":     {[]string{"--what"}, 1, "unknown flag: --what"},
		"no destination":   {[]string{"-c", good}, 1, "you must provide --destination, or use --no-push"},
		"registry is away": {[]string{"-c", good, "-d", "127.0.0.1:1/app"}, 1, "127.0.0.1:1"},
		"mirror is away":   {[]string{"-c", good, "--no-push", "--registry-map=" + e.registry + "=127.0.0.1:1", "--skip-default-registry-fallback"}, 1, "127.0.0.1:1"},
	} {
		if out := e.fresh(t).Try(nil, test.args...); out.Code != test.code || !strings.Contains(out.Stderr, test.says) {
			t.Errorf("%s: exit code %d\n%s", name, out.Code, out.Stderr)
		}
	}
	e.fresh(t).Run("-c", good, "--no-push", "--registry-map="+e.registry+"=127.0.0.1:1", "--verbosity=error")
	out := rig.Run(t, exec.Command(e.Path, "version"))
	if out.Code != 0 || !strings.HasPrefix(out.Stdout, "mica version ") {
		t.Errorf("version: %+v", out)
	}
}

// GitLab's variables are credentials, and Kaniko's directory has Docker's configuration and the store.
func TestCredentials(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	memory := registrytest.NewMemory()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		memory.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	dir := rig.TempDir(t)
	if err := os.Mkdir(filepath.Join(dir, ".docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"auths":{%q:{"auth":"bWU6c2VjcmV0"}}}`, host)
	if err := os.WriteFile(filepath.Join(dir, ".docker", "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-c", e.context(t, "FROM scratch\nCOPY f /\n", map[string]string{"f": "f"}), "-d", host + "/app"}
	for name, test := range map[string]struct {
		env  []string
		code int
	}{
		"nobody": {nil, 1}, "directory": {[]string{"KANIKO_DIR=" + dir, "MICA_ROOT="}, 0},
		"GitLab": {[]string{"CI_REGISTRY=" + host, "CI_REGISTRY_USER=me", "CI_REGISTRY_PASSWORD=secret"}, 0},
	} {
		m := e.fresh(t)
		m.Env = append([]string{"DOCKER_CONFIG=" + filepath.Join(dir, "none")}, test.env...)
		if out := m.Try(nil, args...); out.Code != test.code {
			t.Errorf("%s: exit code %d\n%s", name, out.Code, out.Stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "store")); err != nil {
		t.Error(err)
	}
}

// A registry that keeps its tags refuses one destination; the others are pushed.
func TestImmutableTag(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	memory := registrytest.NewMemory()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/kept") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"errors":[{"code":"TAG_INVALID","message":"tag 'kept' cannot be overwritten because the repository is immutable."}]}`)
			return
		}
		memory.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	args := []string{"-c", e.context(t, "FROM scratch\nCOPY f /\n", map[string]string{"f": "f"}), "-d", host + "/app:kept", "-d", host + "/app:new"}
	if out := e.fresh(t).Try(nil, args...); out.Code != 1 || !strings.Contains(out.Stderr, "immutable") {
		t.Errorf("exit code %d\n%s", out.Code, out.Stderr)
	}
	e.fresh(t).Run(append(args, "--push-ignore-immutable-tag-errors")...)
	rig.NewMica(t).Run("image", "inspect", "--remote", host+"/app:new")
}
