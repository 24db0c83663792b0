package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
)

// commitTime is the time of all commits.
const commitTime = 1549166706

// gitRepository is a repository that a server offers over http.
type gitRepository struct {
	t    *testing.T
	dir  string // its work tree
	url  string
	rest string // the URL as in an LLB identifier
}

// newRepository makes a repository with a commit on main, and serves it. Requests pass through the handler if there is one.
func newRepository(t *testing.T, through func(http.Handler) http.Handler) *gitRepository {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal("this test needs git")
	}
	top := t.TempDir()
	var handler http.Handler = &cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + top, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1"},
		Stderr: io.Discard,
	}
	if through != nil {
		handler = through(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	r := &gitRepository{t: t, dir: filepath.Join(top, "r"), url: server.URL + "/r/.git"}
	r.rest = strings.TrimPrefix(r.url, "http://")
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.git("init", "-q", "-b", "main")
	r.commit("file", "one")
	return r
}

// git runs git in the work tree, without the user's configuration.
func (r *gitRepository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	at := fmt.Sprintf("%d +0000", commitTime)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "GIT_AUTHOR_DATE="+at, "GIT_COMMITTER_DATE="+at)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit commits a file and returns the commit.
func (r *gitRepository) commit(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		r.t.Fatal(err)
	}
	r.git("add", "-A")
	r.git("commit", "-q", "-m", name)
	return r.git("rev-parse", "HEAD")
}

// attrs returns the attributes of a source of the repository, and those given as pairs.
func (r *gitRepository) attrs(pairs ...string) map[string]string {
	attrs := map[string]string{pb.AttrFullRemoteURL: r.url}
	for pair := range slices.Chunk(pairs, 2) {
		attrs[pair[0]] = pair[1]
	}
	return attrs
}

// listing returns the files below a directory without .git, with their contents.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel := strings.TrimPrefix(name, dir+"/")
		switch {
		case rel == ".git":
			return fs.SkipDir
		case d.IsDir():
			files = append(files, rel+"/")
		case d.Type().IsRegular():
			text, err := os.ReadFile(name)
			files = append(files, rel+"="+string(text))
			return err
		default:
			files = append(files, rel+"@")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(files, " ")
}

func TestRepository(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	first := r.git("rev-parse", "HEAD")
	r.git("tag", "light")
	r.git("tag", "-a", "-m", "m", "annotated")
	object := r.git("rev-parse", "annotated")
	r.git("checkout", "-q", "-b", "dev")
	dev := r.commit("sub/dir/deep", "two")
	r.git("checkout", "-q", "main")
	f := newFetcher(t)
	for name, c := range map[string]struct {
		fragment  string
		attrs     []string
		pin, want string
	}{
		"the default branch": {"", nil, first, "file=one"},
		"a branch":           {"#dev", nil, dev, "file=one sub/ sub/dir/ sub/dir/deep=two"},
		"a ref in full":      {"#refs/heads/dev", nil, dev, "file=one sub/ sub/dir/ sub/dir/deep=two"},
		"a tag":              {"#light", nil, first, "file=one"},
		"an annotated tag":   {"#annotated", nil, first, "file=one"},
		"the tag's object":   {"#annotated", []string{pb.AttrKeepGitDir, "true"}, object + ".git#refs/tags/annotated", "file=one"},
		"a commit":           {"#" + first, nil, first, "file=one"},
		"a kept .git":        {"#dev", []string{pb.AttrKeepGitDir, "true"}, dev + ".git#refs/heads/dev", "file=one sub/ sub/dir/ sub/dir/deep=two"},
		"a kept commit":      {"#" + dev, []string{pb.AttrKeepGitDir, "true"}, dev + ".git#" + dev, "file=one sub/ sub/dir/ sub/dir/deep=two"},
		"a directory":        {"#dev:sub/dir", nil, dev + ":sub/dir", "deep=two"},
		"above the root":     {"#dev:../sub", nil, dev + ":sub", "dir/ dir/deep=two"},
		"a checksum":         {"#dev", []string{pb.AttrGitChecksum, dev[:7]}, dev, "file=one sub/ sub/dir/ sub/dir/deep=two"},
		"a tag's checksum":   {"#annotated", []string{pb.AttrGitChecksum, object}, first, "file=one"},
		"its commit's":       {"#annotated", []string{pb.AttrGitChecksum, first}, first, "file=one"},
		"without submodules": {"#light", []string{pb.AttrGitSkipSubmodules, "true"}, first + "(skip-submodules)", "file=one"},
		"the commit's time":  {"#light", []string{pb.AttrGitMTime, "commit"}, first + "(mtime=commit)", "file=one"},
	} {
		pin, dir, err := fetch(t, f, "git://"+r.rest+c.fragment, r.attrs(c.attrs...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := listing(t, dir); pin != c.pin || got != c.want {
			t.Errorf("%s: %s with %s, want %s with %s", name, pin, got, c.pin, c.want)
		}
		kept := slices.Contains(c.attrs, pb.AttrKeepGitDir)
		if _, err := os.Lstat(filepath.Join(dir, ".git")); (err == nil) != kept {
			t.Errorf("%s: .git: %v", name, err)
		}
		if kept {
			r.checkClone(name, dir)
		}
		info, err := os.Lstat(filepath.Join(dir, "file"))
		if slices.Contains(c.attrs, pb.AttrGitMTime) && (err != nil || info.ModTime().Unix() != commitTime) {
			t.Errorf("%s: %v, %v", name, info.ModTime(), err)
		}
	}
}

// checkClone checks that a repository beside its files is clean, and names the remote and no path of this host.
func (r *gitRepository) checkClone(name, dir string) {
	r.t.Helper()
	if got := r.git("-C", dir, "config", "remote.origin.url"); got != r.url {
		r.t.Errorf("%s: origin is %s", name, got)
	}
	if got := r.git("-C", dir, "status", "--porcelain"); got != "" {
		r.t.Errorf("%s: changes: %s", name, got)
	}
	for _, file := range []string{"FETCH_HEAD", "config", "logs/HEAD"} {
		text, err := os.ReadFile(filepath.Join(dir, ".git", file))
		if (err != nil && !errors.Is(err, fs.ErrNotExist)) || bytes.Contains(text, []byte("file://")) {
			r.t.Errorf("%s: %s: %v\n%s", name, file, err, text)
		}
	}
}

// TestWritable: files that nobody may execute can be written by all, and are other content than those that cannot.
func TestWritable(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	script := filepath.Join(r.dir, "script")
	if err := errors.Join(os.WriteFile(script, nil, 0o755), os.Symlink("/etc/passwd", filepath.Join(r.dir, "link"))); err != nil {
		t.Fatal(err)
	}
	r.commit("dir/f", "two")
	f := newFetcher(t)
	pins := map[string]bool{}
	for writable, want := range map[bool]string{false: "drwxr-xr-x -rw-r--r-- -rwxr-xr-x", true: "drwxr-xr-x -rw-rw-rw- -rwxr-xr-x"} {
		build := next(f)
		build.Writable = writable
		src, err := build.Open("git://"+r.rest, r.attrs())
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		pin, err := src.Pin(t.Context())
		if err := errors.Join(err, src.Fetch(t.Context(), dir), src.Close()); err != nil {
			t.Fatal(err)
		}
		pins[pin] = true
		var modes []string
		for _, name := range []string{"dir", "dir/f", "script"} {
			info, err := os.Lstat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			modes = append(modes, info.Mode().String())
		}
		if got := strings.Join(modes, " "); got != want {
			t.Errorf("%t: %s, want %s", writable, got, want)
		}
	}
	if len(pins) != 2 {
		t.Errorf("pins %v", pins)
	}
}

func TestRepositoryRefuses(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	if err := os.Symlink("..", filepath.Join(r.dir, "link")); err != nil {
		t.Fatal(err)
	}
	head := r.commit("dir/x", "x")
	f := newFetcher(t)
	for fragment, c := range map[string]struct {
		attrs []string
		want  string
	}{
		"#missing":                    {nil, "repository does not contain ref missing"},
		"#--upload=x":                 {nil, `invalid git ref "--upload=x"`},
		"#*":                          {nil, "repository does not contain ref *"},
		"#main:none":                  {nil, "invalid subdir none: " + r.url + ": file does not exist"},
		"#main:dir/x":                 {nil, "invalid subdir dir/x: dir/x is not a directory"},
		"#main:link":                  {nil, "invalid subdir link: link is not a directory"},
		"#main:link/x":                {nil, "invalid subdir link/x: link is not a directory"},
		"#main":                       {[]string{pb.AttrGitChecksum, "0123"}, "expected checksum to match 0123, got " + head},
		"#" + head:                    {[]string{pb.AttrGitChecksum, "0123"}, "expected checksum to match 0123, got " + head},
		"#refs/heads/x":               {[]string{pb.AttrGitChecksum, "xyz"}, "invalid checksum xyz for Git URL"},
		"#" + strings.Repeat("1", 40): {nil, "failed to checkout remote " + r.url + ": fatal: reference is not a tree"},
	} {
		if _, _, err := fetch(t, f, "git://"+r.rest+fragment, r.attrs(c.attrs...)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", fragment, err, c.want)
		}
	}
	attrs := map[string]string{pb.AttrFullRemoteURL: strings.Replace(r.url, "http://", "http://user:password@", 1) + "/missing"}
	_, _, err := fetch(t, f, "git://"+r.rest, attrs)
	if err == nil || !strings.Contains(err.Error(), "xxxxx:xxxxx@") || strings.Contains(err.Error(), "password") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a missing repository: %v", err)
	}
}

// Identifiers are grammar: nothing is asked of a server.
func TestRepositoryIdentifiers(t *testing.T) {
	t.Parallel()
	f := newFetcher(t)
	for identifier, want := range map[string]struct{ remote, ref, subdir string }{
		"git://host/r.git":                     {"https://host/r.git", "", ""},
		"git://host/r.git#v1:sub":              {"https://host/r.git", "v1", "sub"},
		"git://host/r.git#:sub":                {"https://host/r.git", "", "sub"},
		"git://http://host:80/r.git#main":      {"http://host:80/r.git", "main", ""},
		"git://git@host:user/r.git#main":       {"git@host:user/r.git", "main", ""},
		"git://ssh://git@host:22/r.git#a/b":    {"ssh://git@host:22/r.git", "a/b", ""},
		"git://host/r.git#refs/pull/1/head:/s": {"https://host/r.git", "refs/pull/1/head", "s"},
	} {
		src, err := f.Open(identifier, nil)
		if err != nil {
			t.Errorf("%s: %v", identifier, err)
			continue
		}
		if r := src.(*repository); r.remote != want.remote || r.ref != want.ref || r.subdir != want.subdir {
			t.Errorf("%s: %q %q %q, want %q", identifier, r.remote, r.ref, r.subdir, want)
		}
	}
	src, err := f.Open("git://host/r.git", map[string]string{pb.AttrFullRemoteURL: "other/r.git"})
	if err != nil || src.(*repository).remote != "https://other/r.git" {
		t.Errorf("a remote without a scheme: %v, %v", src, err)
	}
	if _, err := f.Open("oci://user:password@host/x", nil); err == nil || err.Error() != "oci sources are not supported: oci://xxxxx:xxxxx@host/x" {
		t.Errorf("an unknown scheme: %v", err)
	}
}

// A branch that moves between Pin and Fetch does not change what is fetched; the next build gets the new commit.
func TestBranchMoves(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	f := newFetcher(t)
	open := func() (Source, string) {
		t.Helper()
		src, err := next(f).Open("git://"+r.rest+"#main", r.attrs())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = src.Close() })
		pin, err := src.Pin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return src, pin
	}
	check := func(src Source, want string) {
		t.Helper()
		dir := t.TempDir()
		if err := src.Fetch(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, dir); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	before, pin := open()
	if id := before.Identity(); id.Commit != pin || id.Ref != "refs/heads/main" {
		t.Errorf("%+v is not %s", id, pin)
	}
	r.commit("file", "two")
	check(before, "file=one")
	after, _ := open()
	check(after, "file=two")
	// A branch that became a directory of branches, which git refuses to fetch into the same repository.
	r.git("checkout", "-q", "--detach")
	r.git("branch", "-q", "-D", "main")
	r.git("checkout", "-q", "-b", "main/next")
	r.commit("file", "three")
	_, dir, err := fetch(t, f, "git://"+r.rest+"#main/next", r.attrs())
	if err != nil {
		t.Fatal(err)
	}
	if got := listing(t, dir); got != "file=three" {
		t.Errorf("%s", got)
	}
}

// The repository that is kept of a remote may be damaged, or left by a git that was killed.
func TestDamagedRepository(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	f := newFetcher(t)
	for _, file := range []string{"HEAD", "shallow.lock", "config", "objects"} {
		if _, _, err := fetch(t, f, "git://"+r.rest+"#main", r.attrs()); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(f.Store.Path("cache", "git"), key(r.url), file)
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte("\x00"), 0o644)); err != nil {
			t.Fatal(err)
		}
		_, dir, err := fetch(t, f, "git://"+r.rest+"#main", r.attrs())
		if err != nil {
			t.Errorf("%s is damaged: %v", file, err)
		} else if got := listing(t, dir); got != "file=one" {
			t.Errorf("%s is damaged: %s", file, got)
		}
	}
}

func TestSubmodules(t *testing.T) {
	t.Parallel()
	inner, outer := newRepository(t, nil), newRepository(t, nil)
	outer.git("submodule", "--quiet", "add", inner.url, "inside")
	outer.git("commit", "-q", "-m", "submodule")
	f := newFetcher(t)
	for _, c := range []struct {
		attrs []string
		want  string
	}{
		{nil, "file=one inside/ inside/.git= inside/file=one"},
		{[]string{pb.AttrGitSkipSubmodules, "true"}, "file=one inside/"},
	} {
		_, dir, err := fetch(t, f, "git://"+outer.rest, outer.attrs(c.attrs...))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, ".gitmodules")); err != nil {
			t.Error(err)
		}
		link := filepath.Join(dir, "inside", ".git")
		if _, err := os.Lstat(link); err == nil { // it names a path of the store
			if err := os.WriteFile(link, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := listing(t, dir); got != c.want {
			t.Errorf("%v: %s, want %s", c.attrs, got, c.want)
		}
	}
}

// A token is sent to the server in a header, and is not among git's arguments.
func TestToken(t *testing.T) {
	t.Parallel()
	const header = "basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0" // x-access-token:secret
	r := newRepository(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") != header {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, req)
		})
	})
	host := hostOf(r.url)
	for name, c := range map[string]struct {
		secrets map[string]string
		ok      bool
	}{
		"none":             {nil, false},
		"a token":          {map[string]string{"TOKEN": "secret"}, true},
		"a host's token":   {map[string]string{"TOKEN." + host: "secret", "TOKEN": "other"}, true},
		"a header":         {map[string]string{"HEADER": header + "\n"}, true},
		"a header first":   {map[string]string{"HEADER": header, "TOKEN": "other"}, true},
		"a wrong token":    {map[string]string{"TOKEN": "other"}, false},
		"another host's":   {map[string]string{"TOKEN.example.com": "secret"}, false},
		"host before both": {map[string]string{"TOKEN." + host: "secret", "HEADER": "basic x"}, true},
	} {
		f := newFetcher(t)
		f.Secret = func(_ context.Context, id string) ([]byte, error) {
			if v, ok := c.secrets[id]; ok {
				return []byte(v), nil
			}
			return nil, fs.ErrNotExist
		}
		src, err := f.Open("git://"+r.rest, r.attrs(pb.AttrAuthTokenSecret, "TOKEN", pb.AttrAuthHeaderSecret, "HEADER"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = src.Pin(t.Context())
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if args := strings.Join(src.(*repository).auth, " "); strings.Contains(args, "secret") || strings.Contains(args, "basic") {
			t.Errorf("%s: arguments %s", name, args)
		}
	}
	f := newFetcher(t)
	f.Secret = func(context.Context, string) ([]byte, error) { return nil, errors.New("locked") }
	if _, _, err := fetch(t, f, "git://"+r.rest, r.attrs(pb.AttrAuthTokenSecret, "TOKEN")); err == nil || err.Error() != "locked" {
		t.Errorf("a secret that cannot be read: %v", err)
	}
}

func TestTokenScope(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{
		"https://github.com/a/b.git":      "https://github.com/",
		"https://www.github.com/a/b.git":  "https://www.github.com/",
		"https://github.com.evil/a/b.git": "https://github.com.evil/a/b.git",
		"https://user:pw@host/a.git":      "https://host/a.git",
		"https://user@github.com/a.git":   "https://github.com/",
		"http://github.com/a/b.git":       "http://github.com/a/b.git",
		"git@host:a.git":                  "git@host:a.git",
	} {
		if got := tokenScope(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}

// Credentials of a URL reach git by configuration in its environment.
func TestURLCredentials(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string][]string{
		"https://host/r.git":     nil,
		"git@host:r.git":         nil,
		"https://u:p@host/r.git": {"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url.https://u:p@host/.insteadOf", "GIT_CONFIG_VALUE_0=https://xxxxx:xxxxx@host/"},
	} {
		if got := (&repository{remote: remote}).credentials(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", remote, got, want)
		}
	}
	var user, password string
	r := newRepository(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			var ok bool
			if user, password, ok = req.BasicAuth(); !ok {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, req)
		})
	})
	attrs := map[string]string{pb.AttrFullRemoteURL: strings.Replace(r.url, "://", "://me:hidden@", 1), pb.AttrKeepGitDir: "true"}
	_, dir, err := fetch(t, newFetcher(t), "git://"+r.rest+"#main", attrs)
	if err != nil || user != "me" || password != "hidden" {
		t.Fatalf("%q %q, %v", user, password, err)
	}
	config, err := os.ReadFile(filepath.Join(dir, ".git", "config"))
	if err != nil || bytes.Contains(config, []byte("hidden")) {
		t.Errorf("%v: %s", err, config)
	}
}

// A git that waits for a server ends when the build is cancelled.
func TestCancel(t *testing.T) {
	t.Parallel()
	asked, ended := make(chan bool), make(chan bool)
	r := newRepository(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			close(asked)
			<-req.Context().Done()
			close(ended)
		})
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	go func() {
		<-asked
		cancel(reason)
	}()
	src, err := newFetcher(t).Open("git://"+r.rest, r.attrs())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Pin(ctx); err == nil || !strings.Contains(err.Error(), reason.Error()) {
		t.Errorf("%v", err)
	}
	<-ended
}

// The agent of a build is behind a socket that ends with the source.
func TestAgent(t *testing.T) {
	t.Parallel()
	r := &repository{f: newFetcher(t)}
	socket, err := r.listen(func(c net.Conn) {
		_, _ = io.WriteString(c, "agent")
		_ = c.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(c); err != nil || string(said) != "agent" {
		t.Errorf("%q, %v", said, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Dir(socket)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// A repository that is in use is not removed. The test does not run beside others: a program that one of them starts has a copy of the lock for a
// moment.
func TestRemoveCaches(t *testing.T) {
	r := newRepository(t, nil)
	f := newFetcher(t)
	if _, _, err := fetch(t, f, "git://"+r.rest, r.attrs()); err != nil {
		t.Fatal(err)
	}
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"x"`)
		fmt.Fprint(w, "content")
	})
	if _, _, err := fetch(t, f, url+"/x", nil); err != nil {
		t.Fatal(err)
	}
	left := func() string {
		git, _ := filepath.Glob(f.Store.Path("cache", "git", "*"))
		file, _ := filepath.Glob(f.Store.Path("cache", "http", "*"))
		return fmt.Sprintf("%d repositories, %d files", len(git), len(file))
	}
	lock, err := f.Store.Lock(t.Context(), GitLock+key(r.url))
	if err != nil {
		t.Fatal(err)
	}
	if freed, err := RemoveCaches(f.Store); err != nil || freed == 0 || left() != "1 repositories, 0 files" {
		t.Errorf("in use: %d bytes, %v; left are %s", freed, err, left())
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if freed, err := RemoveCaches(f.Store); err != nil || freed == 0 || left() != "0 repositories, 0 files" {
		t.Errorf("%d bytes, %v; left are %s", freed, err, left())
	}
	if freed, err := RemoveCaches(f.Store); err != nil || freed != 0 {
		t.Errorf("nothing is left: %d bytes, %v", freed, err)
	}
}

// Directories get the commit's time after what is in them.
func TestCommitTime(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	r.commit("a/b", "x")
	_, dir, err := fetch(t, newFetcher(t), "git://"+r.rest, r.attrs(pb.AttrGitMTime, "commit"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "a", "a/b"} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.ModTime().Equal(time.Unix(commitTime, 0)) {
			t.Errorf("%s: %v, %v", name, info.ModTime(), err)
		}
	}
}
