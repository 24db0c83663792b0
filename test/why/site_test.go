//go:build e2e

package why

import (
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// site is a server of files and of git repositories: /file is what was set, all other paths are of repositories.
type site struct {
	t     *testing.T
	url   string
	dir   string
	mu    *sync.Mutex
	files map[string]string
}

func newSite(t *testing.T) *site {
	s := &site{t: t, dir: rig.TempDir(t), mu: &sync.Mutex{}, files: map[string]string{}}
	backend := &cgi.Handler{Path: "/usr/lib/git-core/git-http-backend", Env: []string{"GIT_PROJECT_ROOT=" + s.dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + s.dir}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		content, ok := s.files[r.URL.Path]
		s.mu.Unlock()
		if !ok {
			backend.ServeHTTP(w, r)
			return
		}
		fmt.Fprint(w, content)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// part is the part of the server that belongs to one project.
func (s *site) part(n int) *site {
	part := *s
	part.url, part.dir = fmt.Sprintf("%s/%d", s.url, n), filepath.Join(s.dir, fmt.Sprint(n))
	return &part
}

// file sets what /file is.
func (s *site) file(content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[strings.Join([]string{"", filepath.Base(s.dir), "file"}, "/")] = content
}

// commit adds a commit to /repo.git, in which the file a has a content.
func (s *site) commit(t *testing.T, content string) {
	t.Helper()
	repo := filepath.Join(s.dir, "repo.git")
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", repo, "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	if _, err := os.Stat(repo); err != nil {
		must(t, os.MkdirAll(repo, 0o755))
		git("init", "-q")
	}
	must(t, os.WriteFile(filepath.Join(repo, "a"), []byte(content), 0o644))
	git("add", "a")
	git("commit", "-q", "-m", content, "--allow-empty")
}
