package overlay

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/erofs"
)

func TestUniqueLowers(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "a b c": "a b c", "a a": "a", "a e b e c e": "a b c e", "e a e": "a e",
	} {
		if got := uniqueLowers(strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("uniqueLowers(%s) = %v, want %s", in, got, want)
		}
	}
}

// mountRoot mounts in a mount namespace of the test's own thread, which ends with it.
func mountRoot(t *testing.T, o Options) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	target := filepath.Join(dir, "root")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Mount(target, filepath.Join(dir, "links"), o, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, 0) })
	return target
}

// tree makes a directory. Its name may have characters that are special to overlayfs.
func tree(t *testing.T, name, file, content string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if file != "" {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRootMountOrderAndWrites(t *testing.T) {
	a, b := tree(t, `a:b,c\d`, "f", "lower"), tree(t, "b b", "f", "upper")
	upper, work := tree(t, "u,p", "", ""), tree(t, "w:k", "", "")
	root := mountRoot(t, Options{Lowers: []string{b, a, b}, Upper: upper, Work: work})
	if got, err := os.ReadFile(filepath.Join(root, "f")); err != nil || string(got) != "upper" {
		t.Errorf("f is %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(root, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(upper, "new")); err != nil {
		t.Error(err)
	}
	// Newer kernels call it fsync=volatile.
	if !slices.ContainsFunc(mountOptions(t, root), func(o string) bool { return strings.HasSuffix(o, "volatile") }) {
		t.Errorf("unmounting will sync the whole filesystem: %v", mountOptions(t, root))
	}
}

// mountOptions are those of the filesystem that is mounted at dir.
func mountOptions(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if f[4] == dir {
			return strings.Split(f[len(f)-1], ",")
		}
	}
	t.Fatalf("%s is not mounted", dir)
	return nil
}

// image makes a filesystem in a file.
func image(t *testing.T, file, content string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "i:m,g"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	w := erofs.NewWriter(f, erofs.Label{})
	out, err := w.Create(file, erofs.Node{Mode: unix.S_IFREG | 0o640, UID: 7, Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish([]erofs.Dir{{Path: ".", Node: erofs.Node{Mode: unix.S_IFDIR | 0o755}}}, nil); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func TestRootMountImages(t *testing.T) {
	directory, one, two := tree(t, "directory", "a", "directory"), image(t, "b", "one"), image(t, "b", "two")
	upper, work := tree(t, "u", "", ""), tree(t, "w", "", "")
	root := mountRoot(t, Options{Lowers: []string{one, directory, two}, Upper: upper, Work: work})
	for name, want := range map[string]string{"a": "directory", "b": "two"} {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "b"), []byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(upper, "b"), &st); err != nil || st.Uid != 7 || st.Mode != unix.S_IFREG|0o640 {
		t.Errorf("copied up: %+v, %v", st, err)
	}
	if mounts := mountsBelow(t, filepath.Dir(root)); !slices.Equal(mounts, []string{root}) {
		t.Errorf("mounted are %v", mounts)
	}
	alone := mountRoot(t, Options{Lowers: []string{one}})
	if got, err := os.ReadFile(filepath.Join(alone, "b")); err != nil || string(got) != "one" {
		t.Errorf("b is %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(alone, "new"), nil, 0o600); err == nil {
		t.Error("it can be written to")
	}
}

// mountsBelow are the mount points in dir.
func mountsBelow(t *testing.T, dir string) (points []string) {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	return points
}

func TestRootMountReadOnly(t *testing.T) {
	for _, lowers := range [][]string{{tree(t, "one", "f", "x")}, {tree(t, "one", "f", "x"), tree(t, "two", "g", "y")}} {
		root := mountRoot(t, Options{Lowers: lowers})
		if err := os.WriteFile(filepath.Join(root, "new"), nil, 0o600); err == nil {
			t.Error("it can be written to")
		}
	}
}

// A mount without layers is empty.
func TestRootMountNothing(t *testing.T) {
	for name, o := range map[string]Options{
		"read-only": {},
		"writable":  {Upper: tree(t, "upper", "", ""), Work: tree(t, "work", "", "")},
	} {
		t.Run(name, func(t *testing.T) {
			root := mountRoot(t, o)
			if files, err := os.ReadDir(root); err != nil || len(files) != 0 {
				t.Errorf("%v, %v", files, err)
			}
			if err := os.Mkdir(filepath.Join(root, "new"), 0o755); (err == nil) != (o.Upper != "") {
				t.Error(err)
			}
		})
	}
}

func TestRootMountManyLayers(t *testing.T) {
	base := t.TempDir()
	var lowers []string
	for range maxLowers {
		dir, err := os.MkdirTemp(base, strings.Repeat("long-name-", 15))
		if err != nil {
			t.Fatal(err)
		}
		lowers = append(lowers, dir)
	}
	if err := os.WriteFile(filepath.Join(lowers[0], "f"), []byte("bottom"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := mountRoot(t, Options{Lowers: lowers})
	if got, err := os.ReadFile(filepath.Join(root, "f")); err != nil || string(got) != "bottom" {
		t.Errorf("f is %q, %v", got, err)
	}
	if err := Mount(root, filepath.Join(base, "links"), Options{Lowers: append(lowers, base)}, false); err == nil {
		t.Error("one layer too many is accepted")
	}
}
