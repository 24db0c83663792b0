package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/account"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/overlay"
)

// TestMain lets the test binary be an init process, as mica is.
func TestMain(m *testing.M) {
	Init(os.Args)
	os.Exit(m.Run())
}

// newBundle makes a bundle with a root directory of these files: a name that ends with a slash is a directory, a text that
// begins with "->" a link. Nothing is mounted. The zero value of its ids is that of a user namespace.
func newBundle(t *testing.T, p *Process, files map[string]string) *bundle {
	t.Helper()
	dir := t.TempDir()
	b := &bundle{dir: dir, rootfs: filepath.Join(dir, "rootfs"), p: p, env: p.Env, sources: make([]string, len(p.Mounts)), left: make([]bool, len(p.Mounts))}
	b.root = b.rootfs
	b.ids = account.IDs{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if err := os.Mkdir(b.rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(b.rootfs, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		target, link := strings.CutPrefix(text, "->")
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case link:
			err = os.Symlink(target, path)
		default:
			err = os.WriteFile(path, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// fileTree lists what is in a directory: directories with a slash, links with an arrow.
func fileTree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		switch {
		case d.IsDir():
			name += "/"
		case d.Type()&fs.ModeSymlink != 0:
			name += "->"
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// The working directory is made where the process will find it, and only where it can be written.
func TestMakeCwd(t *testing.T) {
	t.Parallel()
	writable := overlay.Options{Upper: "upper"}
	for name, c := range map[string]struct {
		p          Process
		files      map[string]string
		want, fail string
	}{
		"none":               {Process{Root: writable}, nil, "", ""},
		"missing":            {Process{Root: writable, Cwd: "/a/b"}, nil, "a/ a/b/", ""},
		"relative":           {Process{Root: writable, Cwd: "a"}, nil, "a/", ""},
		"above the root":     {Process{Root: writable, Cwd: "/../../a"}, nil, "a/", ""},
		"there":              {Process{Root: writable, Cwd: "/a"}, map[string]string{"a/b": ""}, "a/ a/b", ""},
		"a link out":         {Process{Root: writable, Cwd: "/l/a"}, map[string]string{"l": "->../../../x"}, "l-> x/ x/a/", ""},
		"a file":             {Process{Root: writable, Cwd: "/f"}, map[string]string{"f": ""}, "f", "working directory /f is not a directory"},
		"below a file":       {Process{Root: writable, Cwd: "/f/a"}, map[string]string{"f": ""}, "f", "make working directory /f/a: not a directory"},
		"a read-only root":   {Process{Root: writable, Cwd: "/a", ReadOnlyRoot: true}, nil, "", ""},
		"a root without top": {Process{Cwd: "/a"}, nil, "", ""},
	} {
		b := newBundle(t, &c.p, c.files)
		got := ""
		if err := b.makeCwd(); err != nil {
			got = err.Error()
		}
		if made := fileTree(t, b.rootfs); got != c.fail || made != c.want {
			t.Errorf("%s: %q with %q, want %q with %q", name, made, got, c.want, c.fail)
		}
	}
}

func TestCwd(t *testing.T) {
	t.Parallel()
	for cwd, want := range map[string]string{"": "/", "/": "/", "a": "/a", "/a/": "/a", "/a/../..": "/", "a//b": "/a/b"} {
		if got := (&bundle{p: &Process{Cwd: cwd}}).cwd(); got != want {
			t.Errorf("%q: %s, want %s", cwd, got, want)
		}
	}
}

func TestNetworkFiles(t *testing.T) {
	t.Parallel()
	p := &Process{
		Hostname: "h", ExtraHosts: []network.ExtraHost{{Host: "x", IP: "1.2.3.4"}},
		Resolver: network.Resolver{Servers: []netip.Addr{netip.MustParseAddr("9.9.9.9")}},
	}
	for writable, files := range map[bool]string{true: "hostname hosts resolv.conf rootfs/", false: "hosts resolv.conf rootfs/"} {
		p.WritableHosts = writable
		b := newBundle(t, p, nil)
		if err := b.makeNetworkFiles(); err != nil {
			t.Fatal(err)
		}
		if got := fileTree(t, b.dir); got != files {
			t.Errorf("writable: %t: %s, want %s", writable, got, files)
		}
		if err := b.writeNetworkFiles(); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"hosts": "127.0.0.1\tlocalhost h\n", "resolv.conf": "nameserver 9.9.9.9\n", "hostname": "h\n"} {
			path := filepath.Join(b.dir, name)
			text, err := os.ReadFile(path)
			if name == "hostname" && !writable {
				continue
			}
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("%s: %q, %v", name, text, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
	}
	if got := (&bundle{p: &Process{}}).hostname(); got != "buildkitsandbox" {
		t.Errorf("the hostname is %s", got)
	}
}

// What cannot work is reported before a runtime is started, in the words of Docker.
func TestPrepare(t *testing.T) {
	t.Parallel()
	files := map[string]string{"etc/passwd": "mica:x:1000:100::/home/mica:/bin/sh\n", "bin/true": "", "file": ""}
	writable := overlay.Options{Upper: "upper"}
	for name, c := range map[string]struct {
		p    Process
		want string
	}{
		"whole":          {Process{Args: []string{"/bin/true"}}, ""},
		"a user":         {Process{Args: []string{"/bin/true"}, User: "nosuch"}, "unable to find user nosuch: no matching entries in passwd file"},
		"a directory":    {Process{Args: []string{"/bin/true"}, Cwd: "/file", Root: writable}, "working directory /file is not a directory"},
		"a command":      {Process{Args: []string{"/bin/false"}}, `exec: "/bin/false": no such file or directory`},
		"an init's":      {Process{Args: []string{"/bin/false"}, Init: true}, ""},
		"a group":        {Process{Args: []string{"/bin/true"}, User: "mica", Groups: []string{"x"}}, "unable to find group x"},
		"not executable": {Process{Args: []string{"/etc/passwd/x"}}, `exec: "/etc/passwd/x": no such file or directory`},
	} {
		b := newBundle(t, &c.p, files)
		got := ""
		if err := b.prepare(); err != nil {
			got = err.Error()
		}
		if got != c.want && (c.want == "" || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// runc reads account files without a limit; crun gets ids and reads none.
func TestCheckAccounts(t *testing.T) {
	t.Parallel()
	b := newBundle(t, &Process{}, map[string]string{"etc/": ""})
	if err := unix.Mkfifo(filepath.Join(b.rootfs, "etc/passwd"), 0o600); err != nil {
		t.Fatal(err)
	}
	const want = "/etc/passwd: it is not a regular file: runc would read all of it; use crun, or mount a file on it"
	if err := (&Host{runtime: "/usr/sbin/runc"}).checkAccounts(b); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := (&Host{runtime: "/usr/bin/crun"}).checkAccounts(b); err != nil {
		t.Error(err)
	}
}

func TestFindExecutable(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"bin/tool": "", "opt/tool": "", "bin/dir/": "", "w/run": "", "usr/bin": "->../bin", "out": "->../../../../bin/sh", "loop": "->loop", "plain": "", "opt/plain": "",
	}
	const path = "PATH=/nosuch:/usr/bin:/opt"
	for name, c := range map[string]struct {
		args   string
		env    []string
		mounts []Mount
		want   string
	}{
		"by path":                 {"/bin/tool", nil, nil, ""},
		"by a link":               {"/usr/bin/tool", nil, nil, ""},
		"relative":                {"./run", nil, nil, ""},
		"relative, above":         {"../bin/tool", nil, nil, ""},
		"missing":                 {"/bin/none", nil, nil, `127 exec: "/bin/none": no such file or directory`},
		"missing, relative":       {"./none", nil, nil, `127 exec: "./none": no such file or directory`},
		"a directory":             {"/bin/dir", nil, nil, `126 exec: "/bin/dir": is a directory`},
		"not executable":          {"/plain", nil, nil, `126 exec: "/plain": permission denied`},
		"a link out":              {"/out", nil, nil, `127 exec: "/out": no such file or directory`},
		"a link in a circle":      {"/loop", nil, nil, `127 exec: "/loop": no such file or directory`},
		"on PATH":                 {"tool", []string{path}, nil, ""},
		"on the last PATH":        {"tool", []string{"PATH=/nosuch", path}, nil, ""},
		"on a relative PATH":      {"run", []string{"PATH=."}, nil, ""},
		"not on PATH":             {"none", []string{path}, nil, `127 exec: "none": executable file not found in $PATH`},
		"without PATH":            {"tool", nil, nil, `127 exec: "tool": executable file not found in $PATH`},
		"not executable on PATH":  {"plain", []string{path}, nil, `126 exec: "plain": permission denied`},
		"a directory on PATH":     {"dir", []string{path}, nil, `126 exec: "dir": is a directory`},
		"in a mount":              {"/data/x", nil, []Mount{{Target: "/data"}}, ""},
		"a mount itself":          {"/data", nil, []Mount{{Target: "data/"}}, ""},
		"beside a mount":          {"/data2", nil, []Mount{{Target: "/data"}}, `127 exec: "/data2": no such file or directory`},
		"in a mount on PATH":      {"x", []string{"PATH=/data"}, []Mount{{Target: "/data"}}, ""},
		"in what the runtime has": {"/proc/self/exe", nil, nil, ""},
	} {
		b := newBundle(t, &Process{Args: []string{c.args}, Env: c.env, Mounts: c.mounts, Cwd: "/w"}, files)
		for _, plain := range []string{"plain", "opt/plain"} {
			if err := os.Chmod(filepath.Join(b.rootfs, plain), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got := ""
		if err := b.findExecutable(); err != nil {
			var start *ociruntime.StartError
			if !errors.As(err, &start) {
				t.Fatal(err)
			}
			got = fmt.Sprint(start.Code, " ", start.Reason)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// For crun, which executes absolute paths, mica puts the interpreter before a script that was called by a relative path.
func TestWritten(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"w/script": "#!/bin/sh -e\n", "w/binary": "\x7fELF", "w/lost": "#!/bin/none\n", "w/plain": "#!/bin/sh\n", "bin/sh": "", "w/out": "->../../../bin/sh",
		"w/link": "->script", "w/empty": "", "w/dir/": "",
	}
	for args, want := range map[string]string{
		"./script a b": "/bin/sh -e ./script a b",
		"../w/script":  "/bin/sh -e ../w/script",
		"./link":       "/bin/sh -e ./link",
		"/w/script":    "/w/script",
		"script":       "script",
		"./binary":     "./binary",
		"./lost":       "./lost",
		"./plain":      "./plain",
		"./out":        "./out",
		"./none":       "./none",
		"./empty":      "./empty",
		"./dir":        "./dir",
	} {
		b := newBundle(t, &Process{Args: strings.Fields(args), Cwd: "/w"}, files)
		if err := os.Chmod(filepath.Join(b.rootfs, "w/plain"), 0o644); err != nil {
			t.Fatal(err)
		}
		b.crun = true
		if got := strings.Join(b.argv(), " "); got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
		b.crun = false
		if got := strings.Join(b.argv(), " "); got != args {
			t.Errorf("%s for runc: %s", args, got)
		}
	}
	b := newBundle(t, &Process{Args: []string{"./script"}, Init: true, Cwd: "/w"}, files)
	if got := strings.Join(b.argv(), " "); got != "/sbin/docker-init -- ./script" {
		t.Errorf("with an init: %s", got)
	}
}

// Selectors are resolved inside the source. These fail before anything is mounted.
func TestHostileSelectors(t *testing.T) {
	t.Parallel()
	b := newBundle(t, &Process{}, map[string]string{"dir/": "", "out": "->/etc/passwd", "up": "->../../../../etc/passwd", "loop": "->loop", "file": "", "magic": "->/proc/self/root"})
	for selector, want := range map[string]error{
		"none": unix.ENOENT, "out": unix.ENOENT, "up": unix.ENOENT, "../../../etc/passwd": unix.ENOENT, "loop": unix.ELOOP, "file/x": unix.ENOTDIR,
		"magic/etc/passwd": unix.ENOENT, "dir/../out": unix.ENOENT,
	} {
		_, err := b.selected(0, Mount{Selector: selector}, b.rootfs)
		if !errors.Is(err, want) || !strings.HasPrefix(err.Error(), selector+": ") {
			t.Errorf("%s: %v, want %v", selector, err, want)
		}
	}
	if _, err := b.source(0, Mount{Type: MountBind, Source: filepath.Join(b.dir, "none")}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a source that is missing: %v", err)
	}
	if at, err := b.source(0, Mount{Type: MountTmpfs}); err != nil || at != "" {
		t.Errorf("a tmpfs has the source %q, %v", at, err)
	}
}
