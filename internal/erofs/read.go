package erofs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// FS reads a filesystem. It is safe for concurrent use. Paths are relative to the root and clean; "." is the root. Symlinks are
// not followed.
type FS struct {
	f     *os.File
	size  int64
	root  uint64
	label Label
	time  time.Time
	dirs  sync.Map // []dirent by path, sorted, of those that were read
}

// Open opens the filesystem in a file: ErrDamaged.
func Open(file string) (*FS, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	m := &FS{f: f}
	if err := m.readSuperblock(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

func (m *FS) readSuperblock() error {
	info, err := m.f.Stat()
	if err != nil {
		return err
	}
	m.size, m.time = info.Size(), info.ModTime()
	b := make([]byte, superSize)
	if err := m.readAt(b, superOffset); err != nil {
		return err
	}
	s, err := decodeSuperblock(b)
	if err != nil {
		return err
	}
	if int64(s.blocks)*blockSize != m.size {
		return errShort
	}
	m.root, m.label = uint64(s.root), s.label
	return nil
}

// Label returns the volume's name.
func (m *FS) Label() Label { return m.label }

// ModTime returns when the filesystem was written.
func (m *FS) ModTime() time.Time { return m.time }

// MarkDurable makes the filesystem durable on disk, and then removes the label.
func (m *FS) MarkDurable() error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", m.f.Fd()), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = unix.Fdatasync(int(f.Fd()))
	if err == nil {
		_, err = f.WriteAt(make([]byte, len(m.label)+1), superOffset+superLabel)
	}
	return errors.Join(err, f.Close())
}

// Close closes the file.
func (m *FS) Close() error { return m.f.Close() }

var (
	errShort   = fmt.Errorf("%w: it ends too early", ErrDamaged)
	errOutside = fmt.Errorf("%w: an inode lies outside", ErrDamaged)
)

// readAt reads all of b: ErrDamaged if the filesystem ends before.
func (m *FS) readAt(b []byte, offset int64) error {
	if offset < 0 || offset > m.size-int64(len(b)) {
		return errShort
	}
	_, err := m.f.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		return errShort
	}
	return err
}

func (m *FS) inode(nid uint64) (*inode, error) {
	if nid > uint64(m.size/slotSize) {
		return nil, errOutside
	}
	var b [inodeSize]byte
	if err := m.readAt(b[:], int64(nid)*slotSize); err != nil {
		return nil, err
	}
	n, err := decodeInode(b[:])
	if err != nil || n.xattrs == 0 {
		return n, err
	}
	attrs := make([]byte, n.xattrs)
	if err := m.readAt(attrs, int64(nid)*slotSize+inodeSize); err != nil {
		return nil, err
	}
	n.Xattrs, err = decodeXattrs(attrs)
	return n, err
}

// content returns the content of an inode. behind has the bytes that were read with the inode, if there are any.
func (m *FS) content(nid uint64, n *inode, behind []byte) (*io.SectionReader, error) {
	c := &content{m: m, full: n.Size, blocks: int64(n.blocks) * blockSize}
	if n.layout == flatInline {
		c.full = n.Size &^ (blockSize - 1)
		c.rest = int64(nid)*slotSize + inodeSize + int64(n.xattrs)
		if end := n.xattrs + int(n.Size-c.full); end <= len(behind) {
			c.inline = behind[n.xattrs:end]
		}
	}
	if n.Size > m.size || c.full > 0 && c.blocks+c.full > m.size {
		return nil, fmt.Errorf("%w: a file lies outside", ErrDamaged)
	}
	return io.NewSectionReader(c, 0, n.Size), nil
}

// content is that of a file, in two pieces. Reads do not go beyond its size.
type content struct {
	m      *FS
	blocks int64 // offset of the full blocks
	full   int64
	rest   int64  // offset of the other bytes
	inline []byte // the others, if they were read already
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
	if n == len(p) {
		return n, nil
	}
	at := offset + int64(n) - c.full
	if c.inline != nil {
		return n + copy(p[n:], c.inline[at:]), nil
	}
	if err := c.m.readAt(p[n:], c.rest+at); err != nil {
		return n, err
	}
	return len(p), nil
}

// find looks a path up: fs.ErrNotExist.
func (m *FS) find(path string) (dirent, error) {
	if path == "." {
		return dirent{nid: m.root, kind: fileType(unix.S_IFDIR)}, nil
	}
	above, base := split(path)
	list, err := m.dir(above)
	if err != nil {
		return dirent{}, err
	}
	e, ok := lookup(list, base)
	if !ok {
		return dirent{}, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return e, nil
}

// dir reads a directory, once.
func (m *FS) dir(path string) ([]dirent, error) {
	if list, ok := m.dirs.Load(path); ok {
		return list.([]dirent), nil
	}
	e, err := m.find(path)
	if err != nil {
		return nil, err
	}
	if e.kind != fileType(unix.S_IFDIR) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	list, err := m.readDir(e.nid)
	if err != nil {
		return nil, err
	}
	m.dirs.Store(path, list)
	return list, nil
}

// maxDir is the largest size of a directory, in bytes.
const maxDir = 1 << 30

func (m *FS) readDir(nid uint64) ([]dirent, error) {
	n, err := m.inode(nid)
	if err != nil {
		return nil, err
	}
	if !n.isDir() || n.Size > maxDir {
		return nil, fmt.Errorf("%w: invalid directory", ErrDamaged)
	}
	r, err := m.content(nid, n, nil)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	var list []dirent
	for block := range slices.Chunk(b, blockSize) {
		if list, err = appendDirents(list, block); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Info is the result of lstat(2) for a file, and its attributes.
type Info struct {
	Node
	Inode uint64 // the same for all names of a file
	Links uint32 // how many names it has
}

// Lstat describes a file: fs.ErrNotExist.
func (m *FS) Lstat(path string) (*Info, error) {
	e, err := m.find(path)
	if err != nil {
		return nil, err
	}
	n, err := m.inode(e.nid)
	if err != nil {
		return nil, err
	}
	return &Info{n.Node, e.nid, n.links}, nil
}

// Open opens a regular file, or a symlink's target: fs.ErrNotExist. It reads the rest of the inode's block as well, which has
// all of most files.
func (m *FS) Open(path string) (*io.SectionReader, error) {
	e, err := m.find(path)
	if err != nil {
		return nil, err
	}
	if e.nid > uint64(m.size/slotSize) {
		return nil, errOutside
	}
	from := int64(e.nid) * slotSize
	end := from - from%blockSize + blockSize
	b := make([]byte, min(end, m.size)-from)
	if err := m.readAt(b, from); err != nil {
		return nil, err
	}
	if len(b) < inodeSize {
		return nil, errOutside
	}
	n, err := decodeInode(b)
	if err != nil {
		return nil, err
	}
	if n.isDir() || n.isDevice() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	return m.content(e.nid, n, b[inodeSize:])
}

// ReadDir returns the names in a directory, sorted: fs.ErrNotExist.
func (m *FS) ReadDir(path string) ([]string, error) {
	list, err := m.dir(path)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.name
	}
	return names, nil
}
