package podroot

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/rootfs"
)

func script(t *testing.T, dir, text string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", text)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", text, err, out)
	}
}

// files lists the files of a directory with their contents, but not those of mica.
func files(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `find . -path ./mica -prune -o -type f -printf '%P=' -exec cat {} \; -printf ' ' -o -type l -printf '%P>%l ' -o -type d -empty -printf '%P/ '`)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(string(out))
	slices.Sort(list)
	return strings.Join(list, " ")
}

// testRoot is a root directory with mica's image, and a mount.
func testRoot(t *testing.T) *Root {
	t.Helper()
	dir := t.TempDir()
	script(t, dir, `mkdir -p mica etc/ssl tmp vol run usr/bin; printf mica >mica/mica; printf image >etc/passwd; printf certs >etc/ssl/certs; printf mount >etc/resolv.conf; printf data >vol/data; ln -s ../run etc/run; printf program >usr/bin/mica`)
	return reopen(t, dir)
}

func reopen(t *testing.T, dir string) *Root {
	t.Helper()
	r, err := newRoot(dir, []string{"/mica", "/usr/bin/mica"}, func() ([]string, error) {
		return []string{"/", dir, dir + "/etc/resolv.conf", dir + "/vol"}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	imageFiles = "etc/passwd=image etc/resolv.conf=mount etc/run>../run etc/ssl/certs=certs run/ tmp/ usr/bin/mica=program vol/data=data"
	ofTree     = "bin/sh=sh etc/passwd=base etc/resolv.conf=base etc/x=x lib>usr/lib usr/bin/mica=base usr/bin/tool=tool vol/hidden=hidden"
)

func testTree(t *testing.T, r *Root) string {
	t.Helper()
	temp, err := r.Temp("root")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = temp.Remove() })
	dir := filepath.Join(temp.Path, "root")
	script(t, temp.Path, `mkdir root; cd root; mkdir -p bin etc vol usr/bin; printf sh >bin/sh; printf base >etc/passwd; printf base >etc/resolv.conf; printf x >etc/x; printf hidden >vol/hidden; ln -s usr/lib lib; printf base >usr/bin/mica; printf tool >usr/bin/tool
		chmod 700 etc; touch -d 2020-01-02 etc; chmod 555 bin`)
	return dir
}

func enter(t *testing.T, r *Root, dir string, owners tree.Owners) *Use {
	t.Helper()
	use, err := r.Enter(t.Context(), dir, owners)
	if err != nil {
		t.Fatal(err)
	}
	return use
}

// What is mounted in the root directory, and mica, stay; all else is the root filesystem's while it is there.
func TestEnter(t *testing.T) {
	t.Parallel()
	r := testRoot(t)
	dir := testTree(t, r)
	owners := rootfs.NewOwners()
	if err := Own(owners, filepath.Join(dir, "etc"), 7, 8, 0o750); err != nil {
		t.Fatal(err)
	}
	use := enter(t, r, dir, owners)
	if got, want := files(t, r.Dir()), "bin/sh=sh etc/passwd=base etc/resolv.conf=mount etc/x=x lib>usr/lib usr/bin/mica=program usr/bin/tool=tool vol/data=data"; got != want {
		t.Errorf("in use:\n%s\nwant\n%s", got, want)
	}
	var st unix.Stat_t
	if err := unix.Lstat(r.Dir()+"/etc", &st); err != nil {
		t.Fatal(err)
	}
	if m, err := owners.Get(r.Dir()+"/etc", &st); err != nil || m.Mode != unix.S_IFDIR|0o750 || m.UID != 7 || m.GID != 8 {
		t.Errorf("etc: %o %+v, %v", st.Mode, m, err)
	}
	for path, want := range map[string]bool{"/etc": true, "/etc/resolv.conf": true, "/vol/x": true, "/etc/x": false, "/bin": false, "/mica/y": true} {
		if use.Stays(path) != want {
			t.Errorf("%s stays: %t", path, !want)
		}
	}
	if err := use.Leave(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, r.Dir()); got != imageFiles {
		t.Errorf("left:\n%s\nwant\n%s", got, imageFiles)
	}
	if got := files(t, dir); got != ofTree {
		t.Errorf("root filesystem:\n%s\nwant\n%s", got, ofTree)
	}
	if info, err := os.Stat(filepath.Join(dir, "etc")); err != nil || info.ModTime().Year() != 2020 || info.Mode().Perm() != 0o700 {
		t.Errorf("etc: %v, %v", info, err)
	}
}

// What a process has changed is in the root filesystem afterwards, and nowhere else.
func TestChangesInUse(t *testing.T) {
	t.Parallel()
	r := testRoot(t)
	dir := testTree(t, r)
	use := enter(t, r, dir, nil)
	script(t, r.Dir(), `rm etc/x; printf new >etc/new; chmod 755 etc; mkdir made; rm -r bin lib; ln -s usr/bin bin`)
	if err := use.Leave(); err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, dir), "bin>usr/bin etc/new=new etc/passwd=base etc/resolv.conf=base made/ usr/bin/mica=base usr/bin/tool=tool vol/hidden=hidden"; got != want {
		t.Errorf("root filesystem:\n%s\nwant\n%s", got, want)
	}
	if info, err := os.Stat(filepath.Join(dir, "etc")); err != nil || info.ModTime().Year() == 2020 || info.Mode().Perm() != 0o755 {
		t.Errorf("etc: %v, %v", info, err)
	}
	if got := files(t, r.Dir()); got != imageFiles {
		t.Errorf("left:\n%s\nwant\n%s", got, imageFiles)
	}
	// A root filesystem without the directory of a mount does not get it.
	use = enter(t, r, dir, nil)
	if err := use.Leave(); err != nil {
		t.Fatal(err)
	}
	script(t, dir, "rm -r etc")
	use = enter(t, r, dir, nil)
	if err := use.Leave(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "etc")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("etc is there: %v", err)
	}
}

// The process of another use may be killed at any moment.
func TestRecover(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(t *testing.T, r *Root, dir string){
		"in use": func(t *testing.T, r *Root, dir string) {
			use := enter(t, r, dir, nil)
			script(t, r.Dir(), "mkdir made closed; printf y >made/y; printf z >closed/z; chmod 500 closed")
			_ = use.Lock().Close()
		},
		"before": func(t *testing.T, r *Root, _ string) {
			script(t, r.Dir(), "mkdir -p mica/roots/image/etc; mv etc/passwd mica/roots/image/etc; mv tmp mica/roots/image")
		},
		"after": func(t *testing.T, r *Root, _ string) {
			script(t, r.Dir(), "mkdir -p mica/roots/image/etc/ssl; mv etc/ssl/certs mica/roots/image/etc/ssl")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testRoot(t)
			kill(t, r, testTree(t, r))
			again := reopen(t, r.Dir())
			dir := testTree(t, again)
			if err := enter(t, again, dir, nil).Leave(); err != nil {
				t.Fatal(err)
			}
			if got := files(t, r.Dir()); got != imageFiles {
				t.Errorf("left:\n%s\nwant\n%s", got, imageFiles)
			}
			if got := files(t, dir); got != ofTree {
				t.Errorf("root filesystem:\n%s\nwant\n%s", got, ofTree)
			}
		})
	}
}

// One at a time uses the root directory, of this process and of others.
func TestTurns(t *testing.T) {
	t.Parallel()
	r := testRoot(t)
	dir := testTree(t, r)
	use := enter(t, r, dir, nil)
	for _, other := range []*Root{r, reopen(t, r.Dir())} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := other.Enter(ctx, dir, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it is used: %v", err)
		}
		cancel()
	}
	if err := use.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := enter(t, r, dir, nil).Leave(); err != nil {
		t.Fatal(err)
	}
}

// A mount below what is no directory in the root filesystem would hide it.
func TestConflict(t *testing.T) {
	t.Parallel()
	r := testRoot(t)
	dir := testTree(t, r)
	script(t, dir, "rm -r usr; ln -s /other usr")
	if _, err := r.Enter(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "/usr, which is not a directory") {
		t.Errorf("%v", err)
	}
	if got := files(t, r.Dir()); got != imageFiles {
		t.Errorf("left:\n%s\nwant\n%s", got, imageFiles)
	}
	if got, want := files(t, dir), strings.Replace(ofTree, "usr/bin/mica=base usr/bin/tool=tool", "usr>/other", 1); got != want {
		t.Errorf("root filesystem:\n%s\nwant\n%s", got, want)
	}
}

// brokenOwners cannot keep an owner, once.
type brokenOwners struct {
	tree.Owners
	failed bool
}

var errBroken = errors.New("broken")

func (o *brokenOwners) Set(path string, m *tree.Meta) error {
	if !o.failed {
		o.failed = true
		return errBroken
	}
	return o.Owners.Set(path, m)
}

// Where a move fails, what has been moved goes back: the root filesystem is not lost.
func TestFailedMove(t *testing.T) {
	t.Parallel()
	r := testRoot(t)
	dir := testTree(t, r)
	if _, err := r.Enter(t.Context(), dir, &brokenOwners{Owners: rootfs.NewOwners()}); !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
	if got := files(t, r.Dir()); got != imageFiles {
		t.Errorf("left:\n%s\nwant\n%s", got, imageFiles)
	}
	if got := files(t, dir); got != ofTree {
		t.Errorf("root filesystem:\n%s\nwant\n%s", got, ofTree)
	}
}

func TestFindWithoutMarker(t *testing.T) {
	t.Parallel()
	if r, err := Find(); err == nil || !strings.Contains(err.Error(), "not made of mica's image") {
		t.Errorf("%v, %v", r, err)
	}
}

// Root without capabilities may not move a directory of another user: an empty one is made again.
func TestRootMoveOthersDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script(t, dir, `mkdir -p from/home/other to; chmod 755 from/home/other; chown -R 12345:12345 from to; chown 12346 from/home/other; chmod 777 .`)
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	as(t, 12345, func() {
		m := &move{from: filepath.Join(dir, "from"), to: filepath.Join(dir, "to"), stay: &staying{kinds: map[string]kind{"home": around}}}
		if err := m.all(); err != nil {
			t.Error(err)
		}
	})
	if got := files(t, dir); got != "from/home/ to/home/other/" {
		t.Error(got)
	}
}

// as calls f on a thread of another user.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // which ends with the goroutine
		_, _, e1 := unix.RawSyscall(unix.SYS_SETGID, uintptr(uid), 0, 0)
		_, _, e2 := unix.RawSyscall(unix.SYS_SETUID, uintptr(uid), 0, 0)
		if e1 != 0 || e2 != 0 {
			t.Error(e1, e2)
			return
		}
		f()
	}()
	<-done
}
