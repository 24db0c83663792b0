package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// image is a small filesystem in memory that a test damages.
type image struct {
	t     *testing.T
	bytes []byte
	nids  map[string]uint64
}

// newImage writes a directory with a file, a link and attributes.
func newImage(t *testing.T) *image {
	t.Helper()
	w, file := newWriter(t)
	if err := create(w, "dir/file", Node{Mode: reg | 0o644, Xattrs: map[string]string{"user.a": "value"}}, strings.Repeat("x", 5000), 5000); err != nil {
		t.Fatal(err)
	}
	if err := create(w, "dir/link", Node{Mode: unix.S_IFLNK | 0o777}, "file", 4); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish([]Dir{{Path: ".", Node: Node{Mode: dir | 0o755}}, {Path: "dir", Node: Node{Mode: dir | 0o755}}}, nil); err != nil {
		t.Fatal(err)
	}
	m, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	i := &image{t: t, nids: map[string]uint64{}}
	for _, path := range []string{".", "dir", "dir/file", "dir/link"} {
		info, err := m.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		i.nids[path] = info.Inode
	}
	if i.bytes, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	return i
}

// inode returns the bytes of an inode.
func (i *image) inode(path string) []byte { return i.bytes[i.nids[path]*slotSize:][:inodeSize] }

// block returns the content of a directory, which has one block.
func (i *image) block(path string) []byte {
	first := binary.LittleEndian.Uint32(i.inode(path)[16:])
	return i.bytes[first*blockSize:][:blockSize]
}

// try reads everything and returns the first error.
func (i *image) try() error {
	file := filepath.Join(i.t.TempDir(), "image")
	if err := os.WriteFile(file, i.bytes, 0o600); err != nil {
		i.t.Fatal(err)
	}
	m, err := Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	for _, path := range []string{".", "dir"} {
		if _, err := m.ReadDir(path); err != nil {
			return err
		}
	}
	for _, path := range []string{"dir/file", "dir/link"} {
		if _, err := m.Lstat(path); err != nil {
			return err
		}
		r, err := m.Open(path)
		if err != nil {
			return err
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n != r.Size() {
			return errors.Join(err, errShort)
		}
	}
	return nil
}

// Every field that leads somewhere is checked before it is followed.
func TestMalformed(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	if err := newImage(t).try(); err != nil {
		t.Fatalf("undamaged: %v", err)
	}
	for name, c := range map[string]struct {
		damage func(*image)
		want   string
	}{
		"empty":                         {func(i *image) { i.bytes = nil }, "it ends too early"},
		"no superblock":                 {func(i *image) { i.bytes = make([]byte, 2*blockSize) }, "no superblock"},
		"another block size":            {func(i *image) { i.bytes[superOffset+superBlockBits] = 9 }, "no superblock"},
		"a block is missing":            {func(i *image) { i.bytes = i.bytes[:len(i.bytes)-blockSize] }, "it ends too early"},
		"half a block is missing":       {func(i *image) { i.bytes = i.bytes[:len(i.bytes)-blockSize/2] }, "it ends too early"},
		"a block too many":              {func(i *image) { i.bytes = append(i.bytes, make([]byte, blockSize)...) }, "it ends too early"},
		"the root is a file":            {func(i *image) { le.PutUint16(i.inode(".")[4:], reg|0o644) }, "invalid directory"},
		"the root lies outside":         {func(i *image) { le.PutUint16(i.bytes[superOffset+superRoot:], 0xffff) }, "outside"},
		"a compact inode":               {func(i *image) { i.inode("dir")[0] &^= 1 }, "format is unknown"},
		"a compressed layout":           {func(i *image) { i.inode("dir/file")[0] = 1 | 3<<1 }, "format is unknown"},
		"a negative size":               {func(i *image) { le.PutUint64(i.inode("dir/file")[8:], 1<<63) }, "format is unknown"},
		"a huge file":                   {func(i *image) { le.PutUint64(i.inode("dir/file")[8:], 1<<40) }, "lies outside"},
		"a huge directory":              {func(i *image) { le.PutUint64(i.inode("dir")[8:], 1<<40) }, "invalid directory"},
		"a directory longer than it is": {func(i *image) { le.PutUint64(i.inode("dir")[8:], uint64(len(i.bytes))) }, "lies outside"},
		"an empty directory block":      {func(i *image) { clear(i.block("dir")) }, "invalid block of a directory"},
		"blocks outside":                {func(i *image) { le.PutUint32(i.inode("dir")[16:], 1<<31) }, "lies outside"},
		"too many attributes":           {func(i *image) { le.PutUint16(i.inode("dir/file")[2:], 0xffff) }, "it ends too early"},
		"an unknown attribute":          {func(i *image) { i.bytes[i.nids["dir/file"]*slotSize+inodeSize+xattrsHeader+1] = 99 }, "an extended attribute is unknown"},
		"a long attribute":              {func(i *image) { le.PutUint16(i.bytes[i.nids["dir/file"]*slotSize+inodeSize+xattrsHeader+2:], 0xffff) }, "an extended attribute is unknown"},
		"a name outside its block":      {func(i *image) { le.PutUint16(i.block("dir")[8+direntSize:], 0xffff) }, "invalid block of a directory"},
		"names before their entries":    {func(i *image) { le.PutUint16(i.block("dir")[8+direntSize:], 4) }, "invalid block of a directory"},
		"the first name is elsewhere":   {func(i *image) { le.PutUint16(i.block("dir")[8:], direntSize+1) }, "invalid block of a directory"},
		"names out of order":            {func(i *image) { swapNames(i.block("dir"), "file", "link") }, "invalid block of a directory"},
		"a slash in a name":             {func(i *image) { swapNames(i.block("dir"), "file", "f/le") }, "invalid block of a directory"},
		"an inode that is not there":    {func(i *image) { le.PutUint64(entry(i.block("dir"), "file"), 1<<40) }, "outside"},
		"an inode at the end":           {func(i *image) { le.PutUint64(entry(i.block("dir"), "file"), uint64(len(i.bytes)/slotSize)) }, ""},
	} {
		i := newImage(t)
		c.damage(i)
		if err := i.try(); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// swapNames replaces a name in a block by another of the same length, and the other by this one.
func swapNames(block []byte, a, b string) {
	i, j := bytes.Index(block, []byte(a)), bytes.Index(block, []byte(b))
	copy(block[i:], b)
	if j >= 0 {
		copy(block[j:], a)
	}
}

// entry returns the entry of a name in a block.
func entry(block []byte, name string) []byte {
	list, err := appendDirents(nil, block)
	if err != nil {
		panic(err)
	}
	index := slices.IndexFunc(list, func(d dirent) bool { return d.name == name })
	return block[(index+2)*direntSize:] // behind "." and ".."
}

// A file whose inode says that it is a directory has no content, and a directory is not opened.
func TestTypes(t *testing.T) {
	t.Parallel()
	i := newImage(t)
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, i.bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if _, err := m.Open("dir"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	for _, path := range []string{"dir/file", "dir/link", "missing", "dir/file/x"} {
		if _, err := m.ReadDir(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the names in %s: %v", path, err)
		}
	}
	if r, err := m.Open("dir/link"); err != nil || r.Size() != 4 {
		t.Errorf("the target of a link: %v", err)
	}
	if names, err := m.ReadDir("dir"); err != nil || !slices.Equal(names, []string{"file", "link"}) {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// Reading at any offset gives the same bytes as reading from the beginning, in blocks, behind the inode, and across.
func TestReadAt(t *testing.T) {
	t.Parallel()
	w, file := newWriter(t)
	text := strings.Repeat("0123456789", 850) // two blocks, and some behind the inode
	if err := create(w, "f", Node{Mode: reg}, text, 999); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish([]Dir{{Path: ".", Node: Node{Mode: dir}}}, nil); err != nil {
		t.Fatal(err)
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
	for _, offset := range []int{0, 1, blockSize - 1, blockSize, 2*blockSize - 3, 2 * blockSize, len(text) - 1} {
		for _, size := range []int{0, 1, 5, blockSize, len(text)} {
			want := text[offset:min(offset+size, len(text))]
			got := make([]byte, size)
			n, err := r.ReadAt(got, int64(offset))
			if string(got[:n]) != want || (err != nil) != (len(want) < size) {
				t.Errorf("%d bytes at %d: %d bytes, %v", size, offset, n, err)
			}
		}
	}
}

// Without its label, a filesystem is durable: the label is removed at last.
func TestMarkDurable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	label := Label{'b', 'o', 'o', 't'}
	err = NewWriter(f, label).Finish([]Dir{{Path: ".", Node: Node{Mode: dir}}}, nil)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Label{label, {}} {
		m, err := Open(file)
		if err != nil {
			t.Fatal(err)
		}
		if m.Label() != want {
			t.Errorf("the label is %q, want %q", m.Label(), want)
		}
		if info, err := os.Stat(file); err != nil || !m.ModTime().Equal(info.ModTime()) {
			t.Errorf("written %v, %v", m.ModTime(), err)
		}
		if err := errors.Join(m.MarkDurable(), m.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDevices(t *testing.T) {
	t.Parallel()
	for _, d := range [][2]uint32{{0, 0}, {1, 3}, {4095, 1048575}, {8, 255}, {8, 256}, {259, 65536}} {
		dev := unix.Mkdev(d[0], d[1])
		if got := decodeDevice(encodeDevice(dev)); got != dev {
			t.Errorf("%d becomes %#x, want %#x", d, got, dev)
		}
	}
}

func TestKeeps(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"user.a": true, "user.": false, "trusted.overlay.opaque": true, "security.capability": true, "system.posix_acl_access": true,
		"system.posix_acl_default": true, "system.posix_acl_accessx": false, "system.other": false, "com.apple": false, "": false,
		"user." + strings.Repeat("n", 255): true, "user." + strings.Repeat("n", 256): false,
	} {
		if got := Keeps(name, "v"); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if Keeps("user.a", strings.Repeat("v", 1<<16)) || !Keeps("user.a", strings.Repeat("v", 1<<16-1)) {
		t.Error("the limit of a value")
	}
}

// Clone is for filesystems that share blocks; others say no, and the bytes are written all the same.
func TestClone(t *testing.T) {
	t.Parallel()
	source := filepath.Join(t.TempDir(), "source")
	text := strings.Repeat("x", 2*blockSize+7)
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	w, file := newWriter(t)
	f, err := w.Create("f", Node{Mode: reg, Size: int64(len(text))})
	if err != nil {
		t.Fatal(err)
	}
	f.Clone(from.Fd())
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	if f.Clone(from.Fd()) {
		t.Error("a file that has been written is cloned")
	}
	if err := errors.Join(f.Close(), w.Finish([]Dir{{Path: ".", Node: Node{Mode: dir}}}, nil)); err != nil {
		t.Fatal(err)
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
	if got, err := io.ReadAll(r); err != nil || string(got) != text {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
