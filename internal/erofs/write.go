package erofs

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Writer makes a filesystem in an empty file. Files may be created in any order and by several goroutines; Finish adds their
// directories and hard links. Before Finish the file is not a filesystem.
type Writer struct {
	f *os.File

	mu    sync.Mutex
	next  int64 // the first block that is not in use
	inode uint32
	// room has the blocks of inodes by the number of free slots at their end.
	room [blockSize/slotSize + 1][]uint32
	// names are the directories' contents, by path.
	names map[string][]dirent
	label Label
}

// NewWriter returns a writer to f, which remains the caller's to close. label becomes the filesystem's volume name.
func NewWriter(f *os.File, label Label) *Writer {
	return &Writer{f: f, next: 1, inode: 1, names: make(map[string][]dirent), label: label}
}

// space is the place of a file's inode and content.
type space struct {
	inode  int64 // offset in bytes
	blocks int64 // the first
	full   int64 // bytes in blocks
	inline int   // bytes behind the inode and its attributes
}

func (s *space) nid() uint64 { return uint64(s.inode / slotSize) }

// allocate finds space for an inode with head bytes, attributes included, and for its content; ino is the inode's serial number.
func (w *Writer) allocate(head int, size int64) (s space, ino uint32, err error) {
	s.inline = int(size % blockSize)
	if head+s.inline > blockSize {
		s.inline = 0
	}
	s.full = size - int64(s.inline)
	w.mu.Lock()
	defer w.mu.Unlock()
	if size < 0 || s.full/blockSize > maxBlocks-w.next-maxHead {
		return s, 0, fmt.Errorf("%w more than %d bytes", ErrUnsupported, int64(maxBlocks)*blockSize)
	}
	s.inode = w.slots((head + s.inline + slotSize - 1) / slotSize)
	s.blocks = w.take(s.full)
	w.inode++
	return s, w.inode, nil
}

// take allocates blocks for a number of bytes, and returns the first; 0 for no bytes.
func (w *Writer) take(bytes int64) (first int64) {
	if bytes == 0 {
		return 0
	}
	first = w.next
	w.next += (bytes + blockSize - 1) / blockSize
	return first
}

// slots allocates n slots in the fullest block that has enough, which wastes almost none.
func (w *Writer) slots(n int) (offset int64) {
	const most = blockSize / slotSize
	if n > most { // attributes alone: they may go on in the next block, from the beginning of one
		return w.take(int64(n)*slotSize) * blockSize
	}
	for free := n; free <= most; free++ {
		if list := w.room[free]; len(list) > 0 {
			block := list[len(list)-1]
			w.room[free] = list[:len(list)-1]
			return w.use(int64(block), free, n)
		}
	}
	return w.use(w.take(blockSize), most, n)
}

// use takes n of the free slots at the end of a block.
func (w *Writer) use(block int64, free, n int) (offset int64) {
	if left := free - n; left > 0 {
		w.room[left] = append(w.room[left], uint32(block))
	}
	return (block+1)*blockSize - int64(free)*slotSize
}

// buffers are for inodes and the content behind them: every file needs one while it is written.
var buffers = sync.Pool{New: func() any { return new([blockSize]byte) }}

// encode appends an inode in its form on disk, with its attributes, to buf.
func (s *space) encode(n *Node, attrs []byte, ino, links uint32, buf []byte) []byte {
	i := inode{Node: *n, xattrs: len(attrs), blocks: uint32(s.blocks), ino: ino, links: links}
	if s.inline > 0 {
		i.layout = flatInline
	}
	var b [inodeSize]byte
	i.encode(b[:])
	return append(append(buf, b[:]...), attrs...)
}

// split cuts a clean path, relative to the root, into the directory and the name in it.
func split(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return ".", path
}

// name adds a name to its directory.
func (w *Writer) name(path string, nid uint64, kind byte) error {
	dir, base := split(path)
	if len(base) > maxName {
		return fmt.Errorf("%w names of %d bytes", ErrUnsupported, len(base))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[dir] = append(w.names[dir], dirent{base, nid, kind})
	return nil
}

// File is a file being written, from the beginning of its content to the end.
type File struct {
	w      *Writer
	space  space
	size   int64
	offset int64
	cloned int64  // bytes from the beginning that Clone has written
	inode  []byte // and the content behind it
	buffer *[blockSize]byte
}

// Create begins a file of any type but a directory. The content of a regular file or the target of a symlink has n.Size bytes,
// which must all be written or skipped. path is relative to the root and clean; the writer keeps it.
func (w *Writer) Create(path string, n Node) (*File, error) {
	attrs, err := encodeXattrs(n.Xattrs)
	if err != nil {
		return nil, err
	}
	s, ino, err := w.allocate(inodeSize+len(attrs), n.Size)
	if err != nil {
		return nil, err
	}
	buffer := buffers.Get().(*[blockSize]byte)
	f := &File{w: w, space: s, size: n.Size, inode: s.encode(&n, attrs, ino, 1, buffer[:0]), buffer: buffer}
	return f, w.name(path, s.nid(), fileType(n.Mode))
}

// Write writes the next bytes of the content.
func (f *File) Write(p []byte) (int, error) {
	if int64(len(p)) > f.size-f.offset {
		return 0, fmt.Errorf("write: %w", io.ErrShortWrite)
	}
	n := len(p)
	if there := min(int64(len(p)), f.cloned-f.offset); there > 0 {
		f.offset, p = f.offset+there, p[there:]
	}
	if in := min(int64(len(p)), f.space.full-f.offset); in > 0 {
		if _, err := f.w.f.WriteAt(p[:in], f.space.blocks*blockSize+f.offset); err != nil {
			return 0, err
		}
		f.offset, p = f.offset+in, p[in:]
	}
	f.inode = append(f.inode, p...)
	f.offset += int64(len(p))
	return n, nil
}

// Skip writes zeros, for which the disk needs no blocks.
func (f *File) Skip(zeros int64) error {
	if zeros > f.size-f.offset {
		return fmt.Errorf("write: %w", io.ErrShortWrite)
	}
	if in := min(zeros, f.space.full-f.offset); in > 0 {
		f.offset, zeros = f.offset+in, zeros-in
	}
	_, err := f.Write(make([]byte, zeros)) // less than a block
	return err
}

// Clone makes the file share the blocks of another, whose descriptor is fd, and reports whether the filesystem can do that
// (ioctl_ficlonerange(2): XFS, btrfs). The caller must write the same bytes in any case: Write then skips those that are shared.
func (f *File) Clone(fd uintptr) bool {
	whole := f.space.full &^ (blockSize - 1)
	if whole == 0 || f.offset > 0 {
		return false
	}
	err := unix.IoctlFileCloneRange(int(f.w.f.Fd()), &unix.FileCloneRange{
		Src_fd: int64(fd), Src_length: uint64(whole), Dest_offset: uint64(f.space.blocks * blockSize),
	})
	if err != nil {
		return false
	}
	f.cloned = whole
	return true
}

// Close ends the file.
func (f *File) Close() error {
	if f.offset != f.size {
		return fmt.Errorf("write: %w", io.ErrUnexpectedEOF)
	}
	_, err := f.w.f.WriteAt(f.inode, f.space.inode)
	buffers.Put(f.buffer)
	f.buffer, f.inode = nil, nil
	return err
}

// end writes the superblock.
func (w *Writer) end() error {
	s := superblock{root: rootOffset / slotSize, inodes: uint64(w.inode), blocks: uint32(w.next), label: w.label}
	_, _ = rand.Read(s.uuid[:]) // it never fails
	if _, err := w.f.WriteAt(s.encode(), superOffset); err != nil {
		return err
	}
	return w.f.Truncate(w.next * blockSize)
}
