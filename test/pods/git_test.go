//go:build e2e

package pods

import (
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// repositories are served over http.
type repositories struct{ dir, url string }

func newRepositories(t *testing.T) *repositories {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	dir := rig.TempDir(t)
	server := httptest.NewServer(&cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"}})
	t.Cleanup(server.Close)
	return &repositories{dir, server.URL}
}

// commit makes the repository NAME.git with files, and submodules of other repositories.
func (r *repositories) commit(t *testing.T, name string, files map[string]string, submodules ...string) {
	t.Helper()
	work := filepath.Join(r.dir, name)
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(work, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", append([]string{"-ec", `
		export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
		url=$1; shift
		git init -q -b main .
		for part; do git submodule --quiet add "$url/$part.git" "$part"; done
		git add .; git commit -q -m x; git clone -q --bare . "$PWD.git"`, "sh", r.url}, submodules...)...)
	cmd.Dir = work
	if out := rig.Run(t, cmd); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
}

// mica's images have git. It fetches while no step has the files of its image.
func TestImagesFetchFromGit(t *testing.T) {
	_, registry := pushedBase(t)
	repos := newRepositories(t)
	repos.commit(t, "part", map[string]string{"file": "part\n"})
	repos.commit(t, "app", map[string]string{"Dockerfile": "FROM " + registry + "/base AS a\nRUN echo a >/a && test ! -e /usr/lib/git-core\n" +
		"FROM " + registry + "/base AS b\nRUN echo b >/b\n" +
		"FROM " + registry + "/base\nADD " + repos.url + "/part.git /part\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY part/file /sub\nRUN cat /a /b /part/file /sub >/all\n"}, "part")
	for _, l := range []level{levelB, levelC} {
		t.Run(l.name, func(t *testing.T) {
			p := newImagePod(t, l, "mica-kaniko-image.tar", "/kaniko/executor")
			p.env = []string{"PATH=/usr/local/bin:/kaniko:/usr/bin:/bin:/busybox", "GIT_PULL_METHOD=http"}
			p.run("--context=git"+strings.TrimPrefix(repos.url, "http")+"/app.git#refs/heads/main", "--destination="+registry+"/git", "--tar-path=/work/app.tar")
			host := rig.NewMica(t)
			host.Run("load", "-i", p.work("app.tar"))
			if got := host.Run("run", "--rm", registry+"/git", "cat", "/all"); got != "a\nb\npart\npart\n" {
				t.Errorf("the image has %q", got)
			}
			if _, err := os.Stat(filepath.Join(p.dir, "rootfs/usr/lib/git-core")); err != nil {
				t.Error(err)
			}
		})
	}
}
