package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
)

// Dir is a directory of a filesystem.
type Dir struct {
	Path string // relative to the root, clean; "." for the root
	Node Node   // but for its size
}

// Link is a hard link: another name of a file, and its first one.
type Link struct{ Name, Of string }

// newDir is a directory while it is written.
type newDir struct {
	*Dir
	list  []dirent // sorted, with "." and ".."
	cuts  []int    // index of the first entry of each block
	attrs []byte
	space space
	ino   uint32
	subs  uint32 // directories in it
}

// Finish makes the directories, which include the root, and the hard links, and completes the filesystem. No file may be
// created afterwards.
func (w *Writer) Finish(dirs []Dir, links []Link) error {
	if err := w.link(links); err != nil {
		return err
	}
	all, err := w.newDirs(dirs)
	if err != nil {
		return err
	}
	for _, d := range all {
		if err := w.writeDir(d); err != nil {
			return err
		}
	}
	return w.end()
}

// link adds hard links, and counts those of each file.
func (w *Writer) link(links []Link) error {
	if len(links) == 0 {
		return nil
	}
	for _, names := range w.names {
		slices.SortFunc(names, byName)
	}
	files := make([]dirent, len(links))
	count := make(map[uint64]uint32)
	for i, l := range links {
		dir, base := split(l.Of)
		file, ok := lookup(w.names[dir], base)
		if !ok {
			return fmt.Errorf("link %q to %q, which is not there", l.Name, l.Of)
		}
		files[i] = file
		count[file.nid]++
	}
	for i, l := range links {
		if err := w.name(l.Name, files[i].nid, files[i].kind); err != nil {
			return err
		}
	}
	for nid, more := range count {
		b := binary.LittleEndian.AppendUint32(nil, more+1)
		if _, err := w.f.WriteAt(b, int64(nid)*slotSize+linksOffset); err != nil {
			return err
		}
	}
	return nil
}

// newDirs allocates space for all directories, and gives each its names.
func (w *Writer) newDirs(dirs []Dir) ([]*newDir, error) {
	all := make([]*newDir, len(dirs))
	byPath := make(map[string]*newDir, len(dirs))
	for i := range dirs {
		d := &newDir{Dir: &dirs[i]}
		all[i], byPath[d.Path] = d, d
	}
	if byPath["."] == nil || len(byPath) < len(dirs) {
		return nil, errors.New("directories lack the root, or have one twice")
	}
	for _, d := range all { // all names first: they determine the space of a directory
		if d.Path == "." {
			continue
		}
		if err := w.name(d.Path, 0, fileType(d.Node.Mode)); err != nil {
			return nil, err
		}
		if above := byPath[path.Dir(d.Path)]; above != nil {
			above.subs++
		}
	}
	for dir := range w.names {
		if byPath[dir] == nil {
			return nil, fmt.Errorf("%q is not among the directories", dir)
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

// place sorts a directory's names and allocates space for them.
func (w *Writer) place(d *newDir) (err error) {
	if d.attrs, err = encodeXattrs(d.Node.Xattrs); err != nil {
		return err
	}
	kind := fileType(d.Node.Mode)
	d.list = slices.Concat(w.names[d.Path], []dirent{{name: ".", kind: kind}, {name: "..", kind: kind}})
	delete(w.names, d.Path)
	slices.SortFunc(d.list, byName)
	for i := 1; i < len(d.list); i++ {
		if d.list[i].name == d.list[i-1].name {
			return fmt.Errorf("%q is there twice", d.list[i].name)
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
		d.space, d.ino, err = w.allocate(head, d.Node.Size)
		return err
	}
	if rootOffset+head > blockSize {
		return fmt.Errorf("%w extended attributes of %d bytes here", ErrUnsupported, len(d.attrs))
	}
	d.space, d.ino = space{inode: rootOffset, blocks: w.take(d.Node.Size), full: d.Node.Size}, 1
	return nil
}

// resolve fills in the inodes of the directories that a directory names.
func (d *newDir) resolve(byPath map[string]*newDir) {
	for i := range d.list {
		switch e := &d.list[i]; {
		case e.name == ".":
			e.nid = d.space.nid()
		case e.name == "..":
			e.nid = byPath[path.Dir(d.Path)].space.nid()
		case e.nid == 0:
			e.nid = byPath[path.Join(d.Path, e.name)].space.nid()
		}
	}
}

func (w *Writer) writeDir(d *newDir) error {
	content := make([]byte, 0, d.Node.Size)
	for i, from := range d.cuts {
		to := len(d.list)
		if i+1 < len(d.cuts) {
			to = d.cuts[i+1]
		}
		content = appendBlock(content, d.list[from:to])
		content = append(content, make([]byte, (i+1)*blockSize-len(content))...)
	}
	if _, err := w.f.WriteAt(content, d.space.blocks*blockSize); err != nil {
		return err
	}
	_, err := w.f.WriteAt(d.space.encode(&d.Node, d.attrs, d.ino, 2+d.subs, nil), d.space.inode)
	return err
}
