package imagecmd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/cli/command/commandtest"
)

// members lists the regular files of a tar with their content.
func members(t *testing.T, data []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			all[h.Name] = string(text)
		}
	}
}

// tarOf makes a tar of files.
func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestSaveAndLoad: what is saved under names or IDs is loaded under the same.
func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ save, load string }{
		"a name":           {"app:1", "Loaded image: app:1\n"},
		"a repository":     {"app", "Loaded image: app:1\n"},
		"two names":        {"app:1 registry.test/x/app:2", "Loaded image: app:1\nLoaded image: registry.test/x/app:2\n"},
		"a name twice":     {"app:1 app:1", "Loaded image: app:1\n"},
		"an ID":            {"$BARE", "Loaded image ID: $FULLBARE\n"},
		"an ID and a name": {"$APP app:1", "Loaded image: app:1\n"},
		"two images":       {"app:1 $BARE", "Loaded image: app:1\nLoaded image ID: $FULLBARE\n"},
		"a platform":       {"--platform linux/amd64 app:1", "Loaded image: app:1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := newFixture(t), commandtest.New(t)
			file := filepath.Join(t.TempDir(), "a.tar")
			if got := from.Run(NewSaveCommand, append([]string{"-o", file}, strings.Fields(from.ids(c.save))...)...); got.Err != nil || got.Stdout != "" {
				t.Fatalf("save: %+v", got)
			}
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
				t.Errorf("%v, %v: an image may hold what is not for everybody", info.Mode(), err)
			}
			got := to.Run(NewLoadCommand, "-i", file)
			if got.Stdout != from.ids(c.load) || got.Err != nil {
				t.Errorf("load: %+v, want %q", got, from.ids(c.load))
			}
			again := to.Run(NewLoadCommand, "-i", file)
			if again.Stdout != got.Stdout || again.Err != nil {
				t.Errorf("load again: %+v, want %q", again, got.Stdout)
			}
		})
	}
}

// TestLoadReplacesAName: the image that had the name has none after it.
func TestLoadReplacesAName(t *testing.T) {
	t.Parallel()
	from, to := newFixture(t), commandtest.New(t)
	old := to.Tag(to.Image(nil, map[string]string{"old": ""}), "app:1")
	saved := from.Run(NewSaveCommand, "app:1")
	got := to.RunWith(t.Context(), strings.NewReader(saved.Stdout), NewLoadCommand)
	want := "The image app:1 already exists, renaming the old one with ID " + old.ID.String() + " to empty string\nLoaded image: app:1\n"
	if got.Stdout != want || got.Err != nil {
		t.Errorf("%+v, want %q", got, want)
	}
}

func TestSaveAndLoadFail(t *testing.T) {
	t.Parallel()
	f, dir := newFixture(t), t.TempDir()
	for args, want := range map[string]string{
		"nosuch":                         "No such image: nosuch:latest",
		"app:2":                          "No such image: app:2",
		"app:1 nosuch":                   "No such image: nosuch:latest",
		"--platform linux/s390x app:1":   "image app:1 is for linux/amd64: no image for platform linux/s390x is in the store",
		"--platform a/b/c/d app:1":       `invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`,
		"-o " + dir + " app:1":           "destination " + dir + " is a directory",
		"-o " + dir + "/no/file app:1":   "create " + dir + "/no/file: open " + dir + "/no/",
		"-o " + dir + "/file.tar nosuch": "No such image: nosuch:latest",
	} {
		if got := f.Run(NewSaveCommand, strings.Fields(args)...); !strings.HasPrefix(commandtest.Text(got.Err), want) || got.Stdout != "" {
			t.Errorf("save %s: %v, want %q", args, got.Err, want)
		}
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("files are left: %v, %v", left, err)
	}
	for args, want := range map[string]string{
		"-i " + dir:             dir + " is a directory, not an archive",
		"-i " + dir + "/nosuch": "open " + dir + "/nosuch: no such file or directory",
		"--platform x/y/z/w":    `invalid platform "x/y/z/w"`,
	} {
		if got := f.Run(NewLoadCommand, strings.Fields(args)...); !strings.HasPrefix(commandtest.Text(got.Err), want) {
			t.Errorf("load %s: %v, want %q", args, got.Err, want)
		}
	}
	for name, text := range map[string]string{"nothing": "", "text": "text", "another archive": string(tarOf(t, map[string]string{"f": "x"}))} {
		if got := f.RunWith(t.Context(), strings.NewReader(text), NewLoadCommand); got.Err == nil || got.Stdout != "" {
			t.Errorf("load of %s: %+v", name, got)
		}
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	got := f.Run(NewExportCommand, "app:1")
	if got.Err != nil {
		t.Fatal(got.Err)
	}
	files := members(t, []byte(got.Stdout))
	if files["a"] != "text" || files["b"] != "more text" || len(files) != 3 {
		t.Errorf("%q", files)
	}
	file := filepath.Join(t.TempDir(), "root.tar")
	if toFile := f.Run(NewExportCommand, "-o", file, "app:1"); toFile.Err != nil || toFile.Stdout != "" {
		t.Fatalf("%+v", toFile)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != got.Stdout {
		t.Errorf("%d bytes, %v, want %d", len(data), err, len(got.Stdout))
	}
	if got := f.Run(NewExportCommand, "nosuch"); commandtest.Text(got.Err) != "No such image: nosuch:latest" || got.Stdout != "" {
		t.Errorf("%+v", got)
	}
}

// TestImport: from stdin, a file and a URL, plain and compressed; the options are in the config.
func TestImport(t *testing.T) {
	t.Parallel()
	plain := tarOf(t, map[string]string{"f": "imported"})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write(plain)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/root.tar" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(plain)
	}))
	t.Cleanup(web.Close)
	file := commandtest.File(t, "root.tar", zipped.String())
	dir := filepath.Dir(file)
	for name, c := range map[string]struct {
		args  []string
		stdin string
		want  string // comment, architecture, Cmd, Env
		err   string
	}{
		"stdin":          {args: []string{"-"}, stdin: string(plain), want: "Imported from - amd64 [] []"},
		"a file":         {args: []string{file, "new:1"}, want: "Imported from " + file + " amd64 [] []"},
		"a URL":          {args: []string{web.URL + "/root.tar"}, want: "Imported from " + web.URL + "/root.tar amd64 [] []"},
		"options":        {args: []string{"-m", "why", "--platform", "linux/arm64", "-c", "CMD [\"sh\"]", "-c", "ENV A=1 B=2", file}, want: "why arm64 [sh] [A=1 B=2]"},
		"a missing file": {args: []string{dir + "/no"}, err: "open " + dir + "/no: no such file or directory"},
		"a directory":    {args: []string{dir}, err: dir + " is a directory, not an archive"},
		"a missing page": {args: []string{web.URL + "/no"}, err: "import: " + web.URL + "/no: 404 Not Found"},
		"a name":         {args: []string{file, "New"}, err: `invalid reference format: "New": invalid reference format: repository name (library/New) must be lowercase`},
		"a platform":     {args: []string{"--platform", "a/b/c/d", file}, err: `invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`},
		"not an archive": {args: []string{"-"}, stdin: strings.Repeat("text", 512), err: "import: layer: not a tar archive"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := commandtest.New(t)
			args := c.args
			if !slices.Contains(args, "--platform") {
				args = append([]string{"--platform", "linux/amd64"}, args...)
			}
			got := m.RunWith(t.Context(), strings.NewReader(c.stdin), NewImportCommand, args...)
			if c.err != "" {
				if !strings.Contains(commandtest.Text(got.Err), c.err) || got.Stdout != "" {
					t.Errorf("%+v, want %q", got, c.err)
				}
				return
			}
			id := strings.TrimSuffix(got.Stdout, "\n")
			shown := m.Run(NewInspectCommand, "-f", "{{.Comment}} {{.Architecture}} {{.Config.Cmd}} {{.Config.Env}}", id)
			if shown.Stdout != c.want+"\n" || got.Err != nil || shown.Err != nil {
				t.Errorf("%+v, %+v, want %q", got, shown, c.want)
			}
			if files := members(t, []byte(m.Run(NewExportCommand, id).Stdout)); files["f"] != "imported" {
				t.Errorf("%q", files)
			}
		})
	}
	for _, change := range []string{"FROM x", "RUN x", "ENV", "NONSENSE x"} {
		if got := commandtest.New(t).Run(NewImportCommand, "-c", change, file); got.Err == nil {
			t.Errorf("%s is accepted: %+v", change, got)
		}
	}
}
