package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// sample is a file of a test's filesystem.
type sample struct {
	name    string
	node    Node
	content string
}

const (
	reg = unix.S_IFREG
	dir = unix.S_IFDIR
)

func randomContent(r *rand.Rand, size int) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// samples has every type of file, and sizes at every edge.
func samples() []sample {
	r := rand.New(rand.NewPCG(1, 2))
	var all []sample
	add := func(name string, n Node, content string) { all = append(all, sample{name, n, content}) }
	for _, size := range []int{0, 1, 31, 32, 33, 63, 4031, 4032, 4033, 4095, 4096, 4097, 8127, 8128, 8129, 8192, 12345, 1 << 20, 1<<20 + 4033} {
		add(fmt.Sprintf("sizes/%d", size), Node{Mode: reg | 0o644, Seconds: int64(size), Nanoseconds: 7, UID: 70000, GID: 1}, randomContent(r, size))
	}
	for i := range 3000 {
		add(fmt.Sprintf("many/%s-%d", strings.Repeat("n", 1+i%200), i), Node{Mode: reg | 0o600}, randomContent(r, r.IntN(100)))
	}
	add("set", Node{Mode: reg | 0o6755, Seconds: -5}, "setuid")
	for _, size := range []int{1, 59, 60, 3000, 4032, 4033, 4095} {
		add(fmt.Sprintf("links/%d", size), Node{Mode: unix.S_IFLNK | 0o777}, strings.Repeat("t", size))
	}
	add("dev/null", Node{Mode: unix.S_IFCHR | 0o666, Device: unix.Mkdev(1, 3)}, "")
	add("dev/large", Node{Mode: unix.S_IFBLK | 0o660, Device: unix.Mkdev(4095, 1048575)}, "")
	add("dev/gone", Node{Mode: unix.S_IFCHR}, "")
	add("dev/pipe", Node{Mode: unix.S_IFIFO | 0o640}, "")
	add("attrs/few", Node{Mode: reg | 0o644, Xattrs: map[string]string{
		"user.a": "1", "user.bb": "", "trusted.overlay.x": "y", "security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	}}, "with attributes")
	add("attrs/long", Node{Mode: reg | 0o644, Xattrs: map[string]string{"user.long": strings.Repeat("v", 9000), "user.z": "end"}}, strings.Repeat("x", 5000))
	add("attrs/acl", Node{Mode: reg | 0o664, Xattrs: map[string]string{"system.posix_acl_access": acl}}, "acl")
	return all
}

// acl is u::rw,u:1000:r,g::rw,m::rw,o::r as getxattr(2) gives it.
const acl = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x06\x00\xff\xff\xff\xff\x10\x00\x06\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"

func sampleDirs() []Dir {
	dirs := []Dir{{Path: ".", Node: Node{Mode: dir | 0o755, Seconds: 99, Xattrs: map[string]string{"user.root": "r"}}}}
	for _, name := range []string{"sizes", "many", "links", "dev", "attrs", "empty", "deep", "deep/er", "deep/er/est"} {
		dirs = append(dirs, Dir{Path: name, Node: Node{Mode: dir | 0o1777, Seconds: 1 << 33, GID: 5, Xattrs: map[string]string{"trusted.overlay.opaque": "y"}}})
	}
	return dirs
}

// newWriter writes a new file.
func newWriter(t testing.TB) (*Writer, string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return NewWriter(f, Label{}), f.Name()
}

// create makes a file, in pieces of so many bytes.
func create(w *Writer, name string, n Node, text string, piece int) error {
	n.Size = int64(len(text))
	f, err := w.Create(name, n)
	if err != nil {
		return err
	}
	for b := range slices.Chunk([]byte(text), piece) {
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return f.Close()
}

// write makes the samples' filesystem, from several goroutines.
func write(t testing.TB, all []sample) string {
	t.Helper()
	w, file := newWriter(t)
	var g errgroup.Group
	g.SetLimit(8)
	for i, s := range all {
		g.Go(func() error { return create(w, s.name, s.node, s.content, 500+i%5*1000) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(sampleDirs(), []Link{{"deep/er/est/hard", "set"}, {"hard", "set"}, {"aaa", "dev/pipe"}}); err != nil {
		t.Fatal(err)
	}
	return file
}

// mounted mounts a filesystem in a mount namespace of the test's own thread, which ends with it.
func mounted(t *testing.T, file string) string {
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
	target := t.TempDir()
	if err := Mount(file, target); err != nil {
		t.Fatalf("%v (Linux 6.12 is needed)", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, 0) })
	return target
}

func TestRootLinuxReadsWhatIsWritten(t *testing.T) {
	all := samples()
	root := mounted(t, write(t, all))
	links := map[string]uint64{"set": 3, "dev/pipe": 2}
	for _, s := range all {
		path := filepath.Join(root, s.name)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if st.Mode != s.node.Mode || st.Uid != s.node.UID || st.Gid != s.node.GID || st.Mtim.Sec != s.node.Seconds ||
			st.Mtim.Nsec != int64(s.node.Nanoseconds) || st.Rdev != s.node.Device || st.Size != int64(len(s.content)) || st.Nlink != max(1, links[s.name]) {
			t.Errorf("%s is %+v", s.name, st)
		}
		checkContent(t, path, s)
		for name, want := range s.node.Xattrs {
			value := make([]byte, 1<<16)
			n, err := unix.Lgetxattr(path, name, value)
			if err != nil || string(value[:n]) != want {
				t.Errorf("%s: %s is %q, %v", s.name, name, value[:max(n, 0)], err)
			}
		}
	}
	list, err := os.ReadDir(filepath.Join(root, "many"))
	if err != nil || len(list) != 3000 {
		t.Errorf("many: %d names, %v", len(list), err)
	}
	checkDirs(t, root)
}

func checkContent(t *testing.T, path string, s sample) {
	t.Helper()
	var got []byte
	var err error
	switch s.node.Mode & unix.S_IFMT {
	case reg:
		got, err = os.ReadFile(path)
	case unix.S_IFLNK:
		var target string
		target, err = os.Readlink(path)
		got = []byte(target)
	}
	if err != nil || string(got) != s.content {
		t.Errorf("%s: %d bytes instead of %d, %v", s.name, len(got), len(s.content), err)
	}
}

func checkDirs(t *testing.T, root string) {
	t.Helper()
	for _, d := range sampleDirs() {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(root, d.Path), &st); err != nil {
			t.Error(err)
			continue
		}
		links := map[string]uint64{".": 9, "deep": 3, "deep/er": 3}[d.Path]
		if st.Mode != d.Node.Mode || st.Gid != d.Node.GID || st.Mtim.Sec != d.Node.Seconds || st.Nlink != max(2, links) {
			t.Errorf("%s is %+v", d.Path, st)
		}
	}
	for _, name := range []string{"hard", "deep/er/est/hard"} {
		a, err := os.Stat(filepath.Join(root, "set"))
		b, err2 := os.Stat(filepath.Join(root, name))
		if err != nil || err2 != nil || !os.SameFile(a, b) {
			t.Errorf("%s is another file than set: %v, %v", name, err, err2)
		}
	}
	checkParent(t, filepath.Join(root, "deep/er"))
}

// checkParent reads a directory as it stands: Linux finds the one above in its own memory.
func checkParent(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, 4096)
	n, err := unix.ReadDirent(int(f.Fd()), buf)
	if err != nil {
		t.Fatal(err)
	}
	inodes := map[string]uint64{}
	for buf = buf[:n]; len(buf) > 0; { // struct linux_dirent64
		size := binary.NativeEndian.Uint16(buf[16:])
		name, _, _ := strings.Cut(string(buf[19:size]), "\x00")
		inodes[name], buf = binary.NativeEndian.Uint64(buf), buf[size:]
	}
	for name, path := range map[string]string{".": dir, "..": filepath.Dir(dir), "est": filepath.Join(dir, "est")} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Ino != inodes[name] {
			t.Errorf("%q is inode %d, %s is %d, %v", name, inodes[name], path, st.Ino, err)
		}
	}
}

func TestRead(t *testing.T) {
	all := samples()
	m, err := Open(write(t, all))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	for _, s := range all {
		n, err := m.Lstat(s.name)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		s.node.Size = int64(len(s.content))
		if diff := cmp.Diff(s.node, n.Node); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
		if n.isDevice() {
			continue
		}
		r, err := m.Open(s.name)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != s.content {
			t.Errorf("%s: %d bytes instead of %d, %v", s.name, len(got), len(s.content), err)
		}
	}
	for _, name := range []string{"hard", "deep/er/est/hard", "set"} {
		n, err := m.Lstat(name)
		if first, _ := m.Lstat("set"); err != nil || n.Links != 3 || n.Inode != first.Inode {
			t.Errorf("%s is %+v, %v", name, n, err)
		}
	}
	names, err := m.ReadDir("many")
	if err != nil || len(names) != 3000 {
		t.Errorf("many: %d names, %v", len(names), err)
	}
	for _, name := range []string{"none", "none/x", "set/x", "many/x", "links/1/x"} {
		if _, err := m.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.Open("many"); err == nil {
		t.Error("a directory can be opened as a file")
	}
}

// FuzzRead: what is damaged gives ErrDamaged, or other content of the same size, and nothing worse.
func FuzzRead(f *testing.F) {
	small := slices.DeleteFunc(samples(), func(s sample) bool {
		return len(s.content) > 10000 || strings.HasPrefix(s.name, "many") && len(s.name) > 7
	})
	whole, err := os.ReadFile(write(f, small))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, []byte{})
	f.Add(superOffset, make([]byte, superSize))
	f.Add(rootOffset, bytes.Repeat([]byte{0xff}, inodeSize))
	for at := blockSize; at < len(whole); at += blockSize / 2 {
		f.Add(at, make([]byte, blockSize))
		f.Add(at+8, bytes.Repeat([]byte{0xff}, 20))
	}
	f.Add(len(whole)/2, []byte(nil))
	file := filepath.Join(f.TempDir(), "image")
	f.Fuzz(func(t *testing.T, at int, over []byte) {
		if at < 0 || at > len(whole) {
			return
		}
		b := bytes.Clone(whole)
		copy(b[at:], over)
		if over == nil {
			b = b[:at]
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		readAll(t, file, small)
	})
}

func readAll(t *testing.T, file string, all []sample) {
	t.Helper()
	m, err := Open(file)
	if err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		return
	}
	defer func() { _ = m.Close() }()
	for _, s := range all {
		n, err := m.Lstat(s.name)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", s.name, err)
			}
			continue
		}
		c, err := m.Open(s.name)
		if err != nil {
			continue
		}
		read, err := io.Copy(io.Discard, c)
		if err == nil && read != n.Size || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %d bytes of %d, %v", s.name, read, n.Size, err)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	root := Dir{Path: ".", Node: Node{Mode: dir | 0o755}}
	for name, c := range map[string]struct {
		try  func(*Writer) error
		says string
	}{
		"long name": {func(w *Writer) error { return create(w, strings.Repeat("n", 256), Node{Mode: reg}, "", 1) }, "names of 256 bytes"},
		"too large": {func(w *Writer) error { _, err := w.Create("f", Node{Mode: reg, Size: 1 << 62}); return err }, "more than"},
		"unknown attr": {func(w *Writer) error {
			return create(w, "f", Node{Mode: reg, Xattrs: map[string]string{"com.x": ""}}, "", 1)
		}, "com.x"},
		"no directory": {func(w *Writer) error {
			return errors.Join(create(w, "a/f", Node{Mode: reg}, "", 1), w.Finish([]Dir{root}, nil))
		}, `"a" is not among`},
		"no root": {func(w *Writer) error { return w.Finish(nil, nil) }, "lack the root"},
		"twice": {func(w *Writer) error {
			return errors.Join(create(w, "f", Node{Mode: reg}, "", 1), create(w, "f", Node{Mode: reg}, "", 1), w.Finish([]Dir{root}, nil))
		}, "twice"},
		"link to naught": {func(w *Writer) error { return w.Finish([]Dir{root}, []Link{{"a", "b"}}) }, "not there"},
		"too short": {func(w *Writer) error {
			f, err := w.Create("f", Node{Mode: reg, Size: 2})
			return errors.Join(err, f.Close())
		}, "EOF"},
		"too long": {func(w *Writer) error {
			f, err := w.Create("f", Node{Mode: reg, Size: 2})
			return errors.Join(err, f.Skip(3))
		}, "short write"},
	} {
		w, _ := newWriter(t)
		if err := c.try(w); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSparse(t *testing.T) {
	w, file := newWriter(t)
	out, err := w.Create("f", Node{Mode: reg | 0o644, Size: 1<<30 + 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Skip(1<<30 + 4); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish([]Dir{{Path: ".", Node: Node{Mode: dir | 0o755}}}, nil); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("zeros take %d bytes of the disk, %v", st.Blocks*512, err)
	}
	m, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	r, err := m.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	end := make([]byte, 8)
	if _, err := r.ReadAt(end, 1<<30+2); err != nil || string(end) != "\x00\x00abcdef" {
		t.Errorf("the end is %q, %v", end, err)
	}
}

func TestRootMountable(t *testing.T) {
	if !Mountable(t.TempDir()) {
		t.Error("it cannot be mounted here")
	}
	// Linux does not read tmpfs in pages.
	if Mountable("/dev/shm") {
		t.Error("in memory, too")
	}
}

// Linux 6.12 refuses a volume name that fills its field: erofs_read_superblock wants a NUL in it.
func TestLabelEndsWithNUL(t *testing.T) {
	s := superblock{label: probeLabel}
	b := s.encode()
	if got := b[superLabel : superLabel+16]; !bytes.Equal(got[:15], probeLabel[:]) || got[15] != 0 {
		t.Errorf("the volume name is % x", got)
	}
	read, err := decodeSuperblock(b)
	if err != nil || read.label != probeLabel {
		t.Errorf("it reads as % x, %v", read.label, err)
	}
}
