package tarstream

import (
	"archive/tar"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// Bounds of the kernel's types.
const (
	maxID    = 1<<32 - 2 // owners
	maxMajor = 1<<12 - 1 // device numbers (Linux's dev_t)
	maxMinor = 1<<20 - 1
)

// isSparse reports whether a file's content is stored in one of GNU tar's sparse formats, the old one or those of pax.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// describe returns the entry of a header.
func describe(h *tar.Header, name string) (*view.Entry, error) {
	if h.Uid < 0 || h.Gid < 0 || h.Uid > maxID || h.Gid > maxID {
		return nil, fmt.Errorf("layer entry %q: no such owner as %d:%d", name, h.Uid, h.Gid)
	}
	e := &view.Entry{
		Path: name, Mode: uint32(h.Mode & 0o7777), UID: h.Uid, GID: h.Gid, ModTime: h.ModTime.UTC(),
	}
	if err := describeType(e, h); err != nil {
		return nil, err
	}
	e.Xattrs = fileXattrs(e.Type, h)
	return e, nil
}

func describeType(e *view.Entry, h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		e.Type, e.Size = view.TypeRegular, h.Size
	case tar.TypeDir:
		e.Type = view.TypeDir
	case tar.TypeFifo:
		e.Type = view.TypeFifo
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) >= unix.PathMax {
			return fmt.Errorf("layer entry %q: a symbolic link's target must have 1 to %d bytes", e.Path, unix.PathMax-1)
		}
		e.Type, e.Linkname, e.Mode = view.TypeSymlink, h.Linkname, 0o777 // as every Linux filesystem has it
	case tar.TypeLink:
		target, err := entryName(h.Linkname)
		if err != nil {
			return fmt.Errorf("layer entry %q: hard link to %q, outside the root", e.Path, h.Linkname)
		}
		e.Type, e.Hardlink = view.TypeRegular, target
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor {
			return fmt.Errorf("layer entry %q: no such device as %d:%d", e.Path, h.Devmajor, h.Devminor)
		}
		e.Type, e.Major, e.Minor = view.TypeChar, h.Devmajor, h.Devminor
		if h.Typeflag == tar.TypeBlock {
			e.Type = view.TypeBlock
		} else if h.Devmajor == 0 && h.Devminor == 0 {
			*e = view.Entry{Path: e.Path, Type: view.TypeWhiteout} // as overlayfs reads it
		}
	default:
		return fmt.Errorf("layer entry %q: unknown type %q", e.Path, h.Typeflag)
	}
	return nil
}

// fileXattrs returns those attributes of a header that a file of this type can have and that are its own.
func fileXattrs(t view.Type, h *tar.Header) map[string]string {
	var attrs map[string]string
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if ok && view.TakesXattr(t, name) {
			set(&attrs, name, value)
		}
	}
	return attrs
}
