package erofs

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Writer makes a filesystem in a file that is empty. Files come in any order, and from any number of goroutines; their
// directories and further names are told in the end. Until Finish the file is no filesystem.
type Writer struct {
	f *os.File

	mu     sync.Mutex
	next   int64 // the first block that is not in use
	serial uint32
	// room holds the blocks of inodes that end with so many free slots.
	room [blockSize/slotSize + 1][]uint32
	// names are the directories' contents, by path.
	names map[string][]dirent
}

// dirent is one name in a directory.
type dirent struct {
	name   string
	number uint64 // of the inode
	kind   byte
}

// NewWriter returns a writer to f, which remains the caller's to close.
func NewWriter(f *os.File) *Writer {
	return &Writer{f: f, next: 1, serial: 1, names: make(map[string][]dirent)}
}

// space is where a file's inode and content go.
type space struct {
	inode  int64 // offset in bytes
	blocks int64 // the first
	full   int64 // bytes that stand in blocks
	inline int   // bytes that stand behind the inode and its attributes
}

// allocate finds space for an inode with head bytes, attributes included, and for its content.
func (w *Writer) allocate(head int, size int64) (space, uint32) {
	s := space{inline: int(size % blockSize)}
	if head+s.inline > blockSize {
		s.inline = 0
	}
	s.full = size - int64(s.inline)
	w.mu.Lock()
	defer w.mu.Unlock()
	s.inode = w.slots((head + s.inline + slotSize - 1) / slotSize)
	s.blocks = w.take(s.full)
	w.serial++
	return s, w.serial
}

// take gives out blocks for so many bytes, 0 for none.
func (w *Writer) take(bytes int64) (first int64) {
	if bytes == 0 {
		return 0
	}
	first = w.next
	w.next += (bytes + blockSize - 1) / blockSize
	return first
}

// slots finds room in the fullest block that has enough, so that as good as none is lost.
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

// use takes n of the free slots that a block ends with.
func (w *Writer) use(block int64, free, n int) (offset int64) {
	if left := free - n; left > 0 {
		w.room[left] = append(w.room[left], uint32(block))
	}
	return (block+1)*blockSize - int64(free)*slotSize
}

// begin finds space for a file and returns its inode with all that stands behind it but content.
func (w *Writer) begin(n *Node) (space, []byte, error) {
	attrs, err := encodeXattrs(n.Xattrs)
	if err != nil {
		return space{}, nil, err
	}
	head := inodeSize + len(attrs)
	s, serial := w.allocate(head, n.Size)
	b := make([]byte, head, head+s.inline)
	s.encode(n, attrs, serial, 1, b)
	return s, b, nil
}

func (s *space) encode(n *Node, attrs []byte, serial, links uint32, b []byte) {
	i := inode{Node: *n, xattrs: len(attrs), blocks: uint32(s.blocks), serial: serial, links: links}
	if s.inline > 0 {
		i.layout = flatInline
	}
	i.encode(b)
	copy(b[inodeSize:], attrs)
}

// split cuts a clean path, relative to the root, into the directory and the name in it.
func split(file string) (dir, base string) {
	if i := strings.LastIndexByte(file, '/'); i >= 0 {
		return file[:i], file[i+1:]
	}
	return ".", file
}

func (w *Writer) name(file string, s space, n *Node) error {
	dir, base := split(file)
	if len(base) > maxName || base == "" {
		return fmt.Errorf("%q: a name of %d bytes: %w", file, len(base), ErrUnsupported)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[dir] = append(w.names[dir], dirent{base, uint64(s.inode / slotSize), fileType(n.Mode)})
	return nil
}

// Add makes a file, of any type but a directory, with its content: that of a regular file, or the target of a symlink.
// n.Size is not looked at. name is relative to the root, clean, and keeps its memory in use.
func (w *Writer) Add(name string, n Node, content []byte) error {
	n.Size = int64(len(content))
	s, b, err := w.begin(&n)
	if err != nil {
		return err
	}
	if s.full > 0 {
		if _, err := w.f.WriteAt(content[:s.full], s.blocks*blockSize); err != nil {
			return err
		}
	}
	if _, err := w.f.WriteAt(append(b, content[s.full:]...), s.inode); err != nil {
		return err
	}
	return w.name(name, s, &n)
}

// File is a regular file being written, from its beginning to its end.
type File struct {
	w      *Writer
	space  space
	size   int64
	offset int64
	cloned int64  // bytes from the beginning that are there already
	inode  []byte // and the content behind it
}

// Create begins a regular file of n.Size bytes. No byte of it may be missing in the end; Skip leaves zeros.
func (w *Writer) Create(name string, n Node) (*File, error) {
	s, b, err := w.begin(&n)
	if err != nil {
		return nil, err
	}
	return &File{w: w, space: s, size: n.Size, inode: b}, w.name(name, s, &n)
}

// Write writes the next bytes of the content.
func (f *File) Write(p []byte) (int, error) {
	if f.offset+int64(len(p)) > f.size {
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

// Skip leaves out zeros: nothing is written, and the disk keeps no block for them.
func (f *File) Skip(zeros int64) error {
	if in := min(zeros, f.space.full-f.offset); in > 0 {
		f.offset, zeros = f.offset+in, zeros-in
	}
	if zeros == 0 {
		return nil
	}
	_, err := f.Write(make([]byte, min(zeros, f.size-f.offset)))
	return err
}

// Clone makes the file share the blocks of another, whose descriptor is fd, on filesystems that can
// (ioctl_ficlonerange(2): XFS, btrfs). It reports whether it has; the same bytes must be written all the same, and those that
// are there are passed over.
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
	return err
}

// superblock writes what a mount begins with.
func (w *Writer) superblock() error {
	le := binary.LittleEndian
	var b [superSize]byte
	le.PutUint32(b[0:], magic)
	b[12] = blockBits
	le.PutUint16(b[14:], rootOffset/slotSize)
	le.PutUint64(b[16:], uint64(w.serial))
	le.PutUint32(b[36:], uint32(w.next))
	if _, err := w.f.WriteAt(b[:], superOffset); err != nil {
		return err
	}
	return w.f.Truncate(w.next * blockSize)
}
