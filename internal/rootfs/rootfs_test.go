package rootfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/view"
)

// base is a filesystem whose files contain their names.
func base(t *testing.T) view.View {
	t.Helper()
	dir := t.TempDir()
	script(t, dir, `mkdir -p d/e etc; printf x >d/one; printf y >d/two; ln d/two d/three; ln -s one d/link; chmod 4755 d/one; printf z >etc/hosts; chown 7:8 d/two; mkfifo d/pipe
		find . -exec touch -h -d 2020-01-02 {} +`)
	v, err := view.Dir(dir, view.DirOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func script(t *testing.T, dir, text string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", text)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", text, err, out)
	}
}

// listing describes changes.
func listing(changes []view.Change) string {
	var list []string
	for _, c := range changes {
		name := c.Entry.Path
		switch {
		case c.Entry.Type == view.TypeWhiteout:
			name = "-" + name
		case c.Entry.Hardlink != "":
			name += "=" + c.Entry.Hardlink
		}
		list = append(list, name)
	}
	return strings.Join(list, " ")
}

// What overlayfs would record of the same commands.
func TestRootChanges(t *testing.T) {
	t.Parallel()
	v := base(t)
	for text, want := range map[string]string{
		"true":              "",
		"touch d/x; rm d/x": "", // the time of a directory alone is no change
		"cp -p d/one n; cat n >d/one; rm n; chmod 4755 d/one; touch -d 2020-01-02 d/one": "", // as before
		"printf w >d/one; chmod 4755 d/one; touch -d 2020-01-02 d/one":                   "d d/one",
		"chmod 755 d/one":                      "d d/one",
		"chown 1:2 d/link -h":                  "d d/link",
		"rm d/one":                             "d -d/one",
		"rm -r d":                              "-d",
		"rm -r d; mkdir d; printf x >d/n":      "d -d/e -d/link d/n -d/one -d/pipe -d/three -d/two",
		"rm -r d; printf x >d":                 "d",
		"rm d/one; mkdir d/one; touch d/one/f": "d d/one d/one/f",
		"mv d f":                               "-d f f/e f/link f/one f/pipe f/three f/two=f/three",
		"ln d/one d/four":                      "d d/four d/one=d/four",
		"ln d/two d/a":                         "d d/a d/three=d/a",
		"chown 3:4 d/two":                      "d d/three d/two", // each a file of its own, as overlayfs copies them up
		"rm d/three":                           "d -d/three",
		"printf q >new; mkdir -p p/q":          "new p p/q",
		"chmod 700 d/e":                        "d d/e",
		"python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"d/s\")'": "",
	} {
		tree, err := Lay(t.Context(), v, ".", filepath.Join(t.TempDir(), "root"), nil)
		if err != nil {
			t.Fatal(err)
		}
		script(t, tree.Path(), text)
		changes, err := tree.Changes(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if got := listing(changes); got != want {
			t.Errorf("%s:\n%s, want\n%s", text, got, want)
		}
	}
}

// A tree is laid out with owners, modes, times and links, and without a change.
func TestRootLay(t *testing.T) {
	t.Parallel()
	v := base(t)
	tree, err := Lay(t.Context(), v, ".", filepath.Join(t.TempDir(), "root"), nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("stat", "-c", "%a %u:%g %Y %h %F", tree.Path()+"/d/one", tree.Path()+"/d/two", tree.Path()+"/d").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"4755 0:0", "644 7:8", "755 0:0"} {
		if line := strings.Split(string(out), "\n")[i]; !strings.HasPrefix(line, want) {
			t.Errorf("%s, want %s", line, want)
		}
	}
}

// What covers files leaves no trace, whatever the process does to it; what was moved there is back with what the process has written.
func TestRootCover(t *testing.T) {
	t.Parallel()
	v := base(t)
	for text, want := range map[string]struct{ changes, cache string }{
		"printf 1 >cache/dir/f; printf 2 >etc/hosts": {"", "f"},
		"printf 1 >cache/other":                      {"cache cache/other", ""},
		"rm -r cache; rm etc/hosts":                  {"", ""},
		"rm -r cache/dir; ln -s /etc cache/dir":      {"", ""},
		"rm -r etc":                                  {"-etc", ""},
		"mv etc etc2":                                {"-etc etc2 etc2/hosts", ""},
		"printf 1 >etc/new":                          {"etc etc/new", ""},
	} {
		dir := t.TempDir()
		tree, err := Lay(t.Context(), v, ".", filepath.Join(dir, "root"), nil)
		if err != nil {
			t.Fatal(err)
		}
		script(t, dir, "mkdir source; printf own >hosts")
		c, err := NewCover(tree.Path(), filepath.Join(dir, "holding"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Show(filepath.Join(dir, "hosts"), "/etc/hosts"); err != nil {
			t.Fatal(err)
		}
		if err := c.Move(filepath.Join(dir, "source"), "/cache/dir"); err != nil {
			t.Fatal(err)
		}
		script(t, tree.Path(), text)
		if err := c.Uncover(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		changes, err := tree.Changes(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if got := listing(changes); got != want.changes {
			t.Errorf("%s: %s, want %s", text, got, want.changes)
		}
		if info, err := os.Lstat(filepath.Join(dir, "source")); err != nil || !info.IsDir() {
			t.Errorf("%s: the source is %v, %v", text, info, err)
		}
		list, _ := os.ReadDir(filepath.Join(dir, "source"))
		if names := slices.Collect(func(yield func(string) bool) {
			for _, e := range list {
				if !yield(e.Name()) {
					return
				}
			}
		}); strings.Join(names, " ") != want.cache {
			t.Errorf("%s: the source has %v, want %s", text, names, want.cache)
		}
	}
}

// Owners, modes, devices and capabilities that this process cannot give files are what owners say, in the files that stay and in those that change.
func TestOwners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script(t, dir, `printf x >setuid; chown 7:8 setuid; chmod 4711 setuid; printf y >closed; chmod 000 closed; mkdir d; chown 5 d; chmod 2500 d
		ln -s x link; chown -h 3:4 link; mknod null c 1 3; ln setuid d/hard; printf z >same; find . -exec touch -h -d 2020-01-02 {} +`)
	v, err := view.Dir(dir, view.DirOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owners := NewOwners()
	root, err := Lay(t.Context(), v, ".", filepath.Join(t.TempDir(), "root"), owners)
	if err != nil {
		t.Fatal(err)
	}
	script(t, root.Path(), `test "$(stat -c %u:%a setuid closed d null | xargs)" = "0:711 0:600 0:700 0:644"; test -f null; test setuid -ef d/hard`)
	if changes, err := root.Changes(t.Context(), v); err != nil || len(changes) != 0 {
		t.Errorf("unchanged: %s, %v", listing(changes), err)
	}
	// A change of what the kernel knows of files shows which are to be asked for.
	script(t, root.Path(), "chown 0 same setuid closed null; printf new >d/new")
	if err := owners.Set(filepath.Join(root.Path(), "same"), &tree.Meta{UID: 9, Mode: unix.S_IFREG | 0o644}); err != nil {
		t.Fatal(err)
	}
	changes, err := root.Changes(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	if got := listing(changes); got != "d d/new same" {
		t.Errorf("changed: %s", got)
	}
	for _, c := range changes {
		e := c.Entry
		if want := map[string][3]int{"d": {5, 0, 0o2500}, "d/new": {0, 0, 0o644}, "same": {9, 0, 0o644}}[e.Path]; [3]int{e.UID, e.GID, int(e.Mode)} != want {
			t.Errorf("%s: %d %d %o", e.Path, e.UID, e.GID, e.Mode)
		}
	}
}
