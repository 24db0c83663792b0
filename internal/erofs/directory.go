package erofs

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Dir is a directory of a filesystem.
type Dir struct {
	Path string // relative to the root, clean; "." for the root
	Node Node   // but for its size
}

// Link is a further name of a file.
type Link struct{ Name, Of string }

// folder is a directory while it is written.
type folder struct {
	*Dir
	list   []dirent // sorted, with "." and ".."
	cuts   []int    // where in the list each block begins
	attrs  []byte
	space  space
	serial uint32
	subs   uint32 // directories in it
}

func (d *folder) number() uint64 { return uint64(d.space.inode / slotSize) }

// Finish makes the directories, the root among them, and the further names of files, and completes the filesystem. No file
// may be made afterwards.
func (w *Writer) Finish(dirs []Dir, links []Link) error {
	if err := w.link(links); err != nil {
		return err
	}
	folders, err := w.folders(dirs)
	if err != nil {
		return err
	}
	for _, d := range folders {
		if err := w.writeFolder(d); err != nil {
			return fmt.Errorf("%q: %w", d.Path, err)
		}
	}
	return w.superblock()
}

func byName(a, b dirent) int { return strings.Compare(a.name, b.name) }

// link adds names, and tells the files how many they have.
func (w *Writer) link(links []Link) error {
	if len(links) == 0 {
		return nil
	}
	for _, names := range w.names {
		slices.SortFunc(names, byName)
	}
	added := make(map[string][]dirent)
	count := make(map[uint64]uint32)
	for _, l := range links {
		dir, base := split(l.Of)
		names := w.names[dir]
		at, ok := slices.BinarySearchFunc(names, dirent{name: base}, byName)
		if !ok {
			return fmt.Errorf("link %q to %q, which is not there: %w", l.Name, l.Of, ErrUnsupported)
		}
		dir, base = split(l.Name)
		if len(base) > maxName {
			return fmt.Errorf("%q: a name of %d bytes: %w", l.Name, len(base), ErrUnsupported)
		}
		added[dir] = append(added[dir], dirent{base, names[at].number, names[at].kind})
		count[names[at].number]++
	}
	for dir, names := range added {
		w.names[dir] = append(w.names[dir], names...)
	}
	for number, more := range count {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], more+1)
		if _, err := w.f.WriteAt(b[:], int64(number)*slotSize+linksOffset); err != nil {
			return err
		}
	}
	return nil
}

// folders finds space for all directories, and gives each its names.
func (w *Writer) folders(dirs []Dir) ([]*folder, error) {
	all := make([]*folder, len(dirs))
	byPath := make(map[string]*folder, len(dirs))
	for i := range dirs {
		d := &folder{Dir: &dirs[i]}
		all[i], byPath[d.Path] = d, d
	}
	if byPath["."] == nil || len(byPath) < len(dirs) {
		return nil, fmt.Errorf("directories without a root, or one twice: %w", ErrUnsupported)
	}
	for _, d := range all { // their names first: what a directory holds says how much space it needs
		if d.Path == "." {
			continue
		}
		if err := w.name(d.Path, space{}, &d.Node); err != nil {
			return nil, err
		}
		above := byPath[parent(d.Path)]
		if above == nil {
			return nil, fmt.Errorf("%q is in no directory: %w", d.Path, ErrUnsupported)
		}
		above.subs++
	}
	for dir := range w.names {
		if byPath[dir] == nil {
			return nil, fmt.Errorf("%q is not among the directories: %w", dir, ErrUnsupported)
		}
	}
	for _, d := range all {
		if err := w.place(d); err != nil {
			return nil, fmt.Errorf("%q: %w", d.Path, err)
		}
	}
	for _, d := range all {
		d.resolve(byPath)
	}
	return all, nil
}

// place orders a directory's names and finds space for them.
func (w *Writer) place(d *folder) (err error) {
	if d.attrs, err = encodeXattrs(d.Node.Xattrs); err != nil {
		return err
	}
	kind := fileType(d.Node.Mode)
	d.list = slices.Concat(w.names[d.Path], []dirent{{name: ".", kind: kind}, {name: "..", kind: kind}})
	delete(w.names, d.Path)
	slices.SortFunc(d.list, byName)
	for i := 1; i < len(d.list); i++ {
		if d.list[i].name == d.list[i-1].name {
			return fmt.Errorf("%q is there twice: %w", d.list[i].name, ErrUnsupported)
		}
	}
	d.cuts = []int{0}
	end := 0
	for i, e := range d.list {
		need := direntSize + len(e.name)
		if end+need > blockSize {
			d.cuts, end = append(d.cuts, i), 0
		}
		end += need
	}
	// Whole blocks, as with other filesystems: programs show the sizes of directories.
	d.Node.Size = int64(len(d.cuts)) * blockSize
	head := inodeSize + len(d.attrs)
	if d.Path != "." {
		d.space, d.serial = w.allocate(head, d.Node.Size)
		return nil
	}
	if rootOffset+head > blockSize {
		return fmt.Errorf("extended attributes of %d bytes: %w", len(d.attrs), ErrUnsupported)
	}
	d.space, d.serial = space{inode: rootOffset, blocks: w.take(d.Node.Size), full: d.Node.Size}, 1
	return nil
}

func parent(dir string) string {
	above, _ := split(dir)
	return above
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// resolve fills in the numbers of the directories that a directory names.
func (d *folder) resolve(byPath map[string]*folder) {
	for i := range d.list {
		switch e := &d.list[i]; {
		case e.name == ".":
			e.number = d.number()
		case e.name == "..":
			e.number = byPath[parent(d.Path)].number()
		case e.number == 0:
			e.number = byPath[join(d.Path, e.name)].number()
		}
	}
}

func (w *Writer) writeFolder(d *folder) error {
	content := make([]byte, 0, d.Node.Size)
	for i, from := range d.cuts {
		to := len(d.list)
		if i+1 < len(d.cuts) {
			to = d.cuts[i+1]
		}
		content = appendNames(content, d.list[from:to])
		content = append(content, make([]byte, (i+1)*blockSize-len(content))...)
	}
	if _, err := w.f.WriteAt(content, d.space.blocks*blockSize); err != nil {
		return err
	}
	b := make([]byte, inodeSize+len(d.attrs))
	d.space.encode(&d.Node, d.attrs, d.serial, 2+d.subs, b)
	_, err := w.f.WriteAt(b, d.space.inode)
	return err
}

// appendNames adds one block of a directory: its entries, then their names.
func appendNames(b []byte, list []dirent) []byte {
	le := binary.LittleEndian
	offset := len(list) * direntSize
	for _, e := range list {
		b = le.AppendUint64(b, e.number)
		b = le.AppendUint16(b, uint16(offset))
		b = append(b, e.kind, 0)
		offset += len(e.name)
	}
	for _, e := range list {
		b = append(b, e.name...)
	}
	return b
}

// sortedNames looks a name up in a directory that was read.
func sortedNames(list []dirent, name string) (dirent, bool) {
	at, ok := slices.BinarySearchFunc(list, name, func(e dirent, name string) int { return cmp.Compare(e.name, name) })
	if !ok {
		return dirent{}, false
	}
	return list[at], true
}
