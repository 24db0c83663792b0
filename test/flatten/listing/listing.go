// Package listing describes a filesystem file by file, in a form in which any two can be compared: one that is mounted, or one
// that is in a tar.
package listing

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// File is everything about one path.
type File struct {
	Path     string
	Type     byte // as in a tar
	Mode     uint32
	UID, GID int
	Size     int64
	Sum      string // sha256 of the content
	Link     string // of a symlink
	Device   string
	Xattrs   map[string]string
	Seconds  int64 // of the time of modification
	Nanos    int
	Same     string // the first path, in the order of names, that is the same file; "" for a file with one name
	Error    string // what lstat(2) says of a name that a directory lists
}

// Files are sorted by path.
type Files []*File

// Lines has a line for every file.
func (f Files) Lines() []string {
	lines := make([]string, len(f))
	for i, file := range f {
		lines[i] = fmt.Sprintf("%+v", *file)
	}
	return lines
}

// settle sorts the files, and says of those that are one which is the first.
func settle(files Files, groups map[string]Files) Files {
	byPath := func(a, b *File) int { return strings.Compare(a.Path, b.Path) }
	slices.SortFunc(files, byPath)
	for _, same := range groups {
		if slices.SortFunc(same, byPath); len(same) > 1 {
			for _, f := range same {
				f.Same = same[0].Path
			}
		}
	}
	return files
}

// Walk lists what is below root, but for the names that skip says.
func Walk(root string, skip func(name string) bool) (Files, error) {
	var files Files
	groups := map[string]Files{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, name)
		switch {
		case rel == ".":
			return err
		case skip(rel) && d.IsDir():
			return filepath.SkipDir
		case skip(rel):
			return nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		f, inode, err := lstat(name)
		if err != nil {
			return err
		}
		f.Path = rel
		files = append(files, f)
		if f.Type != tar.TypeDir && inode != "" {
			groups[inode] = append(groups[inode], f)
		}
		return nil
	})
	return settle(files, groups), err
}

var types = map[uint32]byte{
	unix.S_IFREG: tar.TypeReg, unix.S_IFDIR: tar.TypeDir, unix.S_IFLNK: tar.TypeSymlink, unix.S_IFCHR: tar.TypeChar,
	unix.S_IFBLK: tar.TypeBlock, unix.S_IFIFO: tar.TypeFifo,
}

func lstat(name string) (*File, string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &File{Error: err.Error()}, "", nil //nolint:nilerr // it is what is to be seen
	}
	f := &File{
		Type: types[st.Mode&unix.S_IFMT], Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid),
		Seconds: st.Mtim.Sec, Nanos: int(st.Mtim.Nsec),
	}
	var err error
	switch f.Type {
	case tar.TypeReg:
		var data []byte
		data, err = os.ReadFile(name)
		f.Size, f.Sum = int64(len(data)), sum(data)
	case tar.TypeSymlink:
		f.Link, err = os.Readlink(name)
	case tar.TypeChar, tar.TypeBlock:
		f.Device = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if err == nil {
		f.Xattrs, err = xattrs(name)
	}
	return f, fmt.Sprintf("%d:%d", st.Dev, st.Ino), err
}

func sum(data []byte) string { return fmt.Sprintf("%.8x", sha256.Sum256(data)) }

func xattrs(name string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(name, buf)
	if errors.Is(err, syscall.ENOTSUP) {
		return nil, nil
	}
	if err != nil || n == 0 {
		return nil, err
	}
	attrs := map[string]string{}
	for key := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(name, key, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, key, err)
		}
		attrs[key] = string(value[:n])
	}
	return attrs, nil
}

// FromTar lists the members of a tar that are below a directory of it, but for the names that skip says.
func FromTar(r io.Reader, below string, skip func(name string) bool) (Files, error) {
	all, err := Split(r)
	if err != nil {
		return nil, err
	}
	return all.Below(below, skip), nil
}

// Member is a file of a tar, and its content.
type Member struct {
	tar.Header
	Content []byte
}

// Members are a tar's, by their clean names.
type Members map[string]*Member

// Split reads a tar.
func Split(r io.Reader) (Members, error) {
	members := Members{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return members, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		members[path.Clean(h.Name)] = &Member{*h, data}
	}
}

// Below lists what is below a directory.
func (m Members) Below(dir string, skip func(name string) bool) Files {
	var files Files
	groups := map[string]Files{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		rel := strings.TrimPrefix(name, dir+"/")
		if dir == "." {
			rel = name
		} else if rel == name {
			continue
		}
		if skip(rel) || rel == "." {
			continue
		}
		first := name
		if m[name].Typeflag == tar.TypeLink {
			first = path.Clean(m[name].Linkname)
		}
		f := m[first].file()
		f.Path = rel
		files = append(files, f)
		groups[first] = append(groups[first], f)
	}
	return settle(files, groups)
}

func (m *Member) file() *File {
	f := &File{
		Type: m.Typeflag, Mode: uint32(m.Mode) & 0o7777, UID: m.Uid, GID: m.Gid,
		Seconds: m.ModTime.Unix(), Nanos: m.ModTime.Nanosecond(),
	}
	switch f.Type {
	case tar.TypeReg:
		f.Size, f.Sum = int64(len(m.Content)), sum(m.Content)
	case tar.TypeSymlink:
		f.Link = m.Linkname
	case tar.TypeChar, tar.TypeBlock:
		f.Device = fmt.Sprintf("%d:%d", m.Devmajor, m.Devminor)
	}
	for key, value := range m.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if f.Xattrs == nil {
				f.Xattrs = map[string]string{}
			}
			f.Xattrs[name] = value
		}
	}
	return f
}
