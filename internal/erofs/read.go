package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
)

// Image is a filesystem that is read. It is safe for concurrent use.
type Image struct {
	f    *os.File
	size int64
	root uint64
	dirs sync.Map // what was read of them, by path
}

// directory is one that was read.
type directory struct {
	number uint64
	list   []dirent // sorted
}

// Open opens the filesystem in a file: ErrDamaged.
func Open(file string) (*Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	m := &Image{f: f}
	if err := m.readSuperblock(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

func (m *Image) readSuperblock() error {
	info, err := m.f.Stat()
	if err != nil {
		return err
	}
	m.size = info.Size()
	var b [superSize]byte
	if err := m.readAt(b[:], superOffset); err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint32(b[0:]) != magic || b[12] != blockBits || int64(le.Uint32(b[36:]))*blockSize != m.size {
		return fmt.Errorf("%w: it is not what its first block says", ErrDamaged)
	}
	m.root = uint64(le.Uint16(b[14:]))
	return nil
}

// Close closes the file.
func (m *Image) Close() error { return m.f.Close() }

// readAt reads all of b. What the filesystem does not have is damage.
func (m *Image) readAt(b []byte, offset int64) error {
	if offset < 0 || offset > m.size-int64(len(b)) {
		return fmt.Errorf("%w: it ends too early", ErrDamaged)
	}
	_, err := m.f.ReadAt(b, offset)
	return err
}

func (m *Image) inode(number uint64) (*inode, error) {
	if number > uint64(m.size/slotSize) {
		return nil, fmt.Errorf("%w: an inode lies outside", ErrDamaged)
	}
	var b [inodeSize]byte
	if err := m.readAt(b[:], int64(number)*slotSize); err != nil {
		return nil, err
	}
	n, err := decodeInode(b[:])
	if err != nil || n.xattrs == 0 {
		return n, err
	}
	attrs := make([]byte, n.xattrs)
	if err := m.readAt(attrs, int64(number)*slotSize+inodeSize); err != nil {
		return nil, err
	}
	n.Xattrs, err = decodeXattrs(attrs)
	return n, err
}

// content reads what an inode holds.
func (m *Image) content(number uint64, n *inode) (*io.SectionReader, error) {
	c := &content{m: m, full: n.Size, blocks: int64(n.blocks) * blockSize}
	if n.layout == flatInline {
		c.full = n.Size &^ (blockSize - 1)
		c.rest = int64(number)*slotSize + inodeSize + int64(n.xattrs)
	}
	if n.Size > 0 && (c.full > 0 && c.blocks+c.full > m.size || c.rest > m.size) {
		return nil, fmt.Errorf("%w: a file lies outside", ErrDamaged)
	}
	return io.NewSectionReader(c, 0, n.Size), nil
}

// content is a file's, in two pieces. It is read inside of its size only.
type content struct {
	m      *Image
	blocks int64 // where full bytes stand
	full   int64
	rest   int64 // where the others stand
}

func (c *content) ReadAt(p []byte, offset int64) (int, error) {
	n := 0
	if offset < c.full {
		part := p[:min(int64(len(p)), c.full-offset)]
		if err := c.m.readAt(part, c.blocks+offset); err != nil {
			return 0, err
		}
		n = len(part)
	}
	if n < len(p) {
		if err := c.m.readAt(p[n:], c.rest+offset+int64(n)-c.full); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// maxDir bounds what is read as one directory, in bytes.
const maxDir = 1 << 30

// dir reads a directory, once.
func (m *Image) dir(name string) (*directory, error) {
	if d, ok := m.dirs.Load(name); ok {
		return d.(*directory), nil
	}
	number := m.root
	if name != "." {
		above, base := split(name)
		d, err := m.dir(above)
		if err != nil {
			return nil, err
		}
		e, ok := sortedNames(d.list, base)
		if !ok || e.kind != fileType(dirMode) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		number = e.number
	}
	d, err := m.readDir(number)
	if err != nil {
		return nil, err
	}
	m.dirs.Store(name, d)
	return d, nil
}

func (m *Image) readDir(number uint64) (*directory, error) {
	n, err := m.inode(number)
	if err != nil {
		return nil, err
	}
	if !n.isDir() || n.Size > maxDir {
		return nil, fmt.Errorf("%w: a directory is none", ErrDamaged)
	}
	r, err := m.content(number, n)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	d := &directory{number: number}
	for block := range slices.Chunk(b, blockSize) {
		if d.list, err = appendDirents(d.list, block); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// appendDirents adds what one block of a directory says, but for "." and "..".
func appendDirents(list []dirent, b []byte) ([]dirent, error) {
	bad := fmt.Errorf("%w: a directory's block is none", ErrDamaged)
	le := binary.LittleEndian
	if len(b) < direntSize {
		return nil, bad
	}
	first := int(le.Uint16(b[8:]))
	if first%direntSize != 0 || first == 0 || first > len(b) {
		return nil, bad
	}
	for at := 0; at < first; at += direntSize {
		from, to := int(le.Uint16(b[at+8:])), len(b)
		if next := at + direntSize; next < first {
			to = int(le.Uint16(b[next+8:]))
		}
		if from < first || to < from || to > len(b) {
			return nil, bad
		}
		name := string(bytes.TrimRight(b[from:to], "\x00"))
		if name == "." || name == ".." {
			continue
		}
		if n := len(list); n > 0 && list[n-1].name >= name || bytes.ContainsRune([]byte(name), '/') || name == "" {
			return nil, bad
		}
		list = append(list, dirent{name, le.Uint64(b[at:]), b[at+10]})
	}
	return list, nil
}

const dirMode = 0o040000

// find returns the number of a file's inode: fs.ErrNotExist.
func (m *Image) find(name string) (uint64, error) {
	if name == "." {
		return m.root, nil
	}
	above, base := split(name)
	d, err := m.dir(above)
	if err != nil {
		return 0, err
	}
	e, ok := sortedNames(d.list, base)
	if !ok {
		return 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return e.number, nil
}

// Info is what lstat(2) says of a file, and its attributes.
type Info struct {
	Node
	Inode uint64 // the same for all names of a file
	Links uint32 // how many names it has
}

// Lstat describes a file, by its path relative to the root, clean: fs.ErrNotExist. No symlink is followed.
func (m *Image) Lstat(name string) (*Info, error) {
	number, err := m.find(name)
	if err != nil {
		return nil, err
	}
	n, err := m.inode(number)
	if err != nil {
		return nil, err
	}
	return &Info{n.Node, number, n.links}, nil
}

// Open opens a regular file, or a symlink's target.
func (m *Image) Open(name string) (*io.SectionReader, error) {
	number, err := m.find(name)
	if err != nil {
		return nil, err
	}
	n, err := m.inode(number)
	if err != nil {
		return nil, err
	}
	if n.isDir() || n.isDevice() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return m.content(number, n)
}

// ReadDir returns the names in a directory, sorted.
func (m *Image) ReadDir(name string) ([]string, error) {
	d, err := m.dir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(d.list))
	for i, e := range d.list {
		names[i] = e.name
	}
	return names, nil
}
