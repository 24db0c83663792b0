//go:build e2e

package commands

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// The credentials of the server that holds a file, a context and a repository.
const urlUser, urlPassword = "kq7-user", "kq7-password-4711"

// protected serves a directory to those who know the credentials, and counts them.
func protected(t *testing.T, dir string) (url string, served *int) {
	t.Helper()
	served = new(int)
	files := http.FileServer(http.Dir(dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != urlUser || password != urlPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="files"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		*served++
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "http://", "http://"+urlUser+":"+urlPassword+"@", 1), served
}

// serveRepository puts a repository into a directory, as http servers without any knowledge of git have them.
func serveRepository(t *testing.T, dir string) {
	t.Helper()
	work := directory(t, map[string]string{"Dockerfile": "FROM base\nCOPY f /\n", "f": "f"})
	for _, args := range [][]string{
		{"init", "-q", "-b", "main", work},
		{"-C", work, "add", "."},
		{"-C", work, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "c"},
		{"clone", "-q", "--bare", work, filepath.Join(dir, "r.git")},
		{"-C", filepath.Join(dir, "r.git"), "update-server-info"},
	} {
		rig.Must(t, "git", args...)
	}
}

// Credentials in URLs are sent, and else nowhere: not shown, not in the store, not in what is written out, whether the command
// succeeds or fails.
func TestURLCredentialsLeaveNothing(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"f": "content"})
	context := directory(t, map[string]string{"Dockerfile": "FROM base\nCOPY Dockerfile /d\n"})
	rig.Must(t, "tar", "-C", context, "-cf", filepath.Join(dir, "context.tar"), ".")
	tar, err := rig.BusyboxTar(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "cp", tar, filepath.Join(dir, "root.tar"))
	serveRepository(t, dir)
	url, served := protected(t, dir)
	out := rig.TempDir(t)
	path := func(name string) string { return filepath.Join(out, name) }
	files := directory(t, map[string]string{
		"add":      "FROM base\nADD " + url + "/f /\nADD " + url + "/r.git#main /r\nADD --keep-git-dir=true " + url + "/r.git#main /g\n",
		"argument": "FROM base\nARG URL\nADD $URL/f /\nRUN true\n",
		"named":    "FROM base\nCOPY --from=ctx / /d\n",
		"missing":  "FROM base\nADD " + url + "/missing /\n",
		"checksum": "FROM base\nADD --checksum=sha256:" + strings.Repeat("0", 64) + " " + url + "/f /\n",
		"branch":   "FROM base\nADD " + url + "/r.git#missing /\n",
		"wrong":    "FROM base\nADD --nonsense " + url + "/f /\n",
		"copy":     "FROM base\nCOPY " + url + "/f /\n",
		"bake.hcl": "target \"default\" {\n  context = \"" + url + "/context.tar\"\n}\n",
	})
	build := func(progress string, args ...string) []string {
		return append([]string{"build", "--progress", progress, "--provenance", "mode=max", "--metadata-file", path("metadata.json")}, args...)
	}
	for _, c := range []struct {
		name  string
		fails bool
		args  []string
	}{
		{"a context", false, build("plain", "-t", "a", "--cache-to", "type=local,mode=max,dest="+path("cache"), url+"/context.tar")},
		{"a repository", false, build("plain", "-t", "b", url+"/r.git#main")},
		{"ADD", false, build("plain", "-t", "c", "-f", filepath.Join(files, "add"), "-o", "type=oci,dest="+path("c.tar"), files)},
		{"ADD, in JSON", false, build("rawjson", "--no-cache", "-t", "c", "-f", filepath.Join(files, "add"), files)},
		{"a build argument", false, build("plain", "-t", "d", "--build-arg", "URL="+url, "-f", filepath.Join(files, "argument"), files)},
		{"a named context", false, build("plain", "-t", "e", "--build-context", "ctx="+url+"/context.tar", "-f", filepath.Join(files, "named"), files)},
		{"a named repository", false, build("plain", "-t", "e", "--build-context", "ctx="+url+"/r.git#main", "-f", filepath.Join(files, "named"), files)},
		{"bake", false, []string{"bake", "-f", filepath.Join(files, "bake.hcl")}},
		{"import", false, []string{"import", url + "/root.tar", "imported"}},
		{"history", false, []string{"history", "--no-trunc", "c"}},
		{"save", false, []string{"save", "-o", path("saved.tar"), "c", "d"}},
		{"a missing file", true, build("plain", "-f", filepath.Join(files, "missing"), files)},
		{"another digest", true, build("plain", "-f", filepath.Join(files, "checksum"), files)},
		{"a missing branch", true, build("plain", "-f", filepath.Join(files, "branch"), files)},
		{"a wrong flag", true, build("plain", "-f", filepath.Join(files, "wrong"), files)},
		{"COPY of a URL", true, build("plain", "-f", filepath.Join(files, "copy"), files)},
		{"a missing context", true, build("plain", url+"/missing.tar")},
		{"a missing repository", true, build("plain", url+"/missing.git")},
		{"an import of nothing", true, []string{"import", url + "/missing", "imported"}},
		{"a server that is gone", true, build("plain", "http://"+urlUser+":"+urlPassword+"@127.0.0.1:1/context.tar")},
	} {
		t.Run(c.name, func(t *testing.T) {
			result := m.Try(nil, c.args...)
			if (result.Code != 0) != c.fails {
				t.Errorf("exit code %d: %s", result.Code, result.Stderr)
			}
			revealed(t, "stdout", []byte(result.Stdout))
			revealed(t, "stderr", []byte(result.Stderr))
		})
	}
	if *served == 0 {
		t.Error("nothing was served")
	}
	for _, root := range []string{m.Root, out} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			revealed(t, path, data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, image := range []string{"a", "b", "c", "d", "e"} {
		tree := rig.TempDir(t)
		cmd := exec.Command("tar", "-C", tree, "-xf", "-")
		cmd.Stdin = strings.NewReader(m.Run("export", image))
		rig.Run(t, cmd)
		if found := rig.Run(t, exec.Command("grep", "-rl", urlPassword, tree)); found.Stdout != "" {
			t.Errorf("files of %s have the password: %s", image, found.Stdout)
		}
	}
}

// revealed reports credentials in what is shown or kept.
func revealed(t *testing.T, where string, data []byte) {
	t.Helper()
	for _, secret := range []string{urlPassword, urlUser, base64.StdEncoding.EncodeToString([]byte(urlUser + ":" + urlPassword))} {
		if i := bytes.Index(data, []byte(secret)); i >= 0 {
			t.Errorf("%s has %s: …%s…", where, secret, data[max(i-150, 0):min(i+80, len(data))])
		}
	}
}
