// Package erofs writes and reads EROFS filesystems: files that hold a whole tree, which Linux mounts. They are uncompressed and
// have blocks of 4 KiB; the end of a file that does not fill a block follows the file's inode. The package reads only
// filesystems that it has written.
//
// The format is that of Linux's fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst.
package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	magic     = 0xE0F5E1E2
	blockBits = 12
	blockSize = 1 << blockBits
	// slotSize is the alignment of inodes; an inode's nid is the number of slots before it.
	slotSize = 32

	superOffset = 1024
	superSize   = 128
	rootOffset  = superOffset + superSize // of the root's inode, whose nid has 16 bits only

	inodeSize    = 64 // extended inodes: numbers of 32 bits for owners, and a time of each
	linksOffset  = 44 // in an inode
	direntSize   = 12
	xattrsHeader = 12
	maxName      = 255

	// maxBlocks is the largest number of 32 bits, maxHead the blocks of an inode with the longest attributes.
	maxBlocks = 1<<32 - 1
	maxHead   = (1<<16*4+inodeSize)/blockSize + 2
)

// Layouts of a file's content.
const (
	flatPlain  = 0 // in blocks
	flatInline = 2 // in blocks, and the rest behind the inode
)

// ErrDamaged is returned for a file that is not an EROFS filesystem as this package writes them.
var ErrDamaged = errors.New("damaged filesystem")

// Offsets of the fields of the superblock that are not 0.
const (
	superBlockBits = 12
	superRoot      = 14
	superInodes    = 16
	superBlocks    = 36
	superUUID      = 48
	superLabel     = 64
)

// ErrUnsupported is returned for a file that EROFS cannot hold.
var ErrUnsupported = errors.New("EROFS does not support")

// superblock is the first structure that a mount reads.
type superblock struct {
	root   uint16 // nid
	inodes uint64
	blocks uint32
	// uuid identifies the filesystem: overlayfs identifies a file that was copied up by it and the inode.
	uuid  [16]byte
	label Label
}

// Label is a filesystem's volume name. The field has 16 bytes, but Linux 6.12 does not mount a filesystem whose name does
// not end with a NUL within them.
type Label [15]byte

func (s *superblock) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, superSize)
	le.PutUint32(b, magic)
	b[superBlockBits] = blockBits
	le.PutUint16(b[superRoot:], s.root)
	le.PutUint64(b[superInodes:], s.inodes)
	le.PutUint32(b[superBlocks:], s.blocks)
	copy(b[superUUID:], s.uuid[:])
	copy(b[superLabel:], s.label[:])
	return b
}

func decodeSuperblock(b []byte) (*superblock, error) {
	le := binary.LittleEndian
	if le.Uint32(b) != magic || b[superBlockBits] != blockBits {
		return nil, fmt.Errorf("%w: it has no superblock", ErrDamaged)
	}
	s := &superblock{root: le.Uint16(b[superRoot:]), inodes: le.Uint64(b[superInodes:]), blocks: le.Uint32(b[superBlocks:])}
	copy(s.label[:], b[superLabel:])
	return s, nil
}

// Node is the metadata of a file.
type Node struct {
	Mode        uint32 // as in stat(2): type and permissions
	UID, GID    uint32
	Seconds     int64 // of the modification, since 1970
	Nanoseconds uint32
	Device      uint64 // as unix.Mkdev gives it
	Size        int64  // bytes of content
	Xattrs      map[string]string
}

func (n *Node) isDir() bool { return n.Mode&unix.S_IFMT == unix.S_IFDIR }

// isDevice reports whether a device number takes the place of the address of the content.
func (n *Node) isDevice() bool {
	t := n.Mode & unix.S_IFMT
	return t == unix.S_IFCHR || t == unix.S_IFBLK
}

// inode is a node in its form on disk.
type inode struct {
	Node
	layout uint16
	xattrs int    // bytes of attributes, behind the inode
	blocks uint32 // first block of the content
	ino    uint32 // for programs that know 32 bits only
	links  uint32
}

func (n *inode) encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], 1|n.layout<<1)
	if n.xattrs > 0 {
		le.PutUint16(b[2:], uint16((n.xattrs-xattrsHeader)/4+1))
	}
	le.PutUint16(b[4:], uint16(n.Mode))
	le.PutUint64(b[8:], uint64(n.Size))
	le.PutUint32(b[16:], n.blocks)
	if n.isDevice() {
		le.PutUint32(b[16:], encodeDevice(n.Device))
	}
	le.PutUint32(b[20:], n.ino)
	le.PutUint32(b[24:], n.UID)
	le.PutUint32(b[28:], n.GID)
	le.PutUint64(b[32:], uint64(n.Seconds))
	le.PutUint32(b[40:], n.Nanoseconds)
	le.PutUint32(b[linksOffset:], n.links)
}

func decodeInode(b []byte) (*inode, error) {
	le := binary.LittleEndian
	format := le.Uint16(b[0:])
	n := &inode{
		Node: Node{
			Mode: uint32(le.Uint16(b[4:])), Size: int64(le.Uint64(b[8:])), UID: le.Uint32(b[24:]), GID: le.Uint32(b[28:]),
			Seconds: int64(le.Uint64(b[32:])), Nanoseconds: le.Uint32(b[40:]),
		},
		layout: format >> 1,
		blocks: le.Uint32(b[16:]),
		links:  le.Uint32(b[linksOffset:]),
	}
	if count := int(le.Uint16(b[2:])); count > 0 {
		n.xattrs = (count-1)*4 + xattrsHeader
	}
	if n.isDevice() {
		n.Device = decodeDevice(n.blocks)
	}
	if format&1 == 0 || n.layout != flatPlain && n.layout != flatInline || n.Size < 0 {
		return nil, fmt.Errorf("%w: an inode's format is unknown", ErrDamaged)
	}
	return n, nil
}

// encodeDevice is the kernel's new_encode_dev.
func encodeDevice(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

func decodeDevice(n uint32) uint64 {
	return unix.Mkdev(n&0xfff00>>8, n&0xff|n>>12&0xfff00)
}

// fileType is a file's type in a directory (FT_* of linux/fs_types.h).
func fileType(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFSOCK:
		return 6
	case unix.S_IFLNK:
		return 7
	}
	return 0
}

// prefixes are the beginnings of names of attributes, by their numbers.
var prefixes = map[byte]string{
	1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security.",
}

// Keeps reports whether an extended attribute can be kept.
func Keeps(name, value string) bool {
	_, rest, ok := cutPrefix(name)
	return ok && len(rest) <= 255 && len(value) <= 0xffff
}

func cutPrefix(name string) (number byte, rest string, ok bool) {
	for number, prefix := range prefixes {
		rest, ok := strings.CutPrefix(name, prefix)
		if ok && (rest == "") == strings.HasPrefix(prefix, "system.") {
			return number, rest, true
		}
	}
	return 0, "", false
}

// encodeXattrs returns attributes in their form behind an inode.
func encodeXattrs(attrs map[string]string) ([]byte, error) {
	if len(attrs) == 0 {
		return nil, nil
	}
	b := make([]byte, xattrsHeader)
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		value := attrs[name]
		if !Keeps(name, value) {
			return nil, fmt.Errorf("%w extended attribute %s of %d bytes", ErrUnsupported, name, len(value))
		}
		number, rest, _ := cutPrefix(name)
		b = append(b, byte(len(rest)), number)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(append(b, rest...), value...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	if (len(b)-xattrsHeader)/4+1 > 0xffff {
		return nil, fmt.Errorf("%w extended attributes of %d bytes", ErrUnsupported, len(b))
	}
	return b, nil
}

func decodeXattrs(b []byte) (map[string]string, error) {
	attrs := make(map[string]string)
	for b = b[xattrsHeader:]; len(b) >= 4; {
		prefix, ok := prefixes[b[1]]
		name := 4 + int(b[0])
		end := name + int(binary.LittleEndian.Uint16(b[2:]))
		if !ok || end > len(b) {
			return nil, fmt.Errorf("%w: an extended attribute is unknown", ErrDamaged)
		}
		attrs[prefix+string(b[4:name])] = string(b[name:end])
		b = b[min(end+(-end&3), len(b)):]
	}
	return attrs, nil
}
