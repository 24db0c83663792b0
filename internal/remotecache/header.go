package remotecache

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/view"
)

// typeFlags are the type flags of tar headers.
var typeFlags = map[view.Type]byte{
	view.TypeRegular: '0', view.TypeSymlink: '2', view.TypeChar: '3', view.TypeBlock: '4', view.TypeDir: '5', view.TypeFifo: '6',
	view.TypeSocket: '0',
}

// header returns the text that precedes a file's content in its digest: a tar header without name and times, in the form
// of Docker's old tarsum (cache/contenthash/{filehash,tarsum}.go). It has the device numbers of files of a build context,
// but not of a snapshot (filehash_unix.go, setUnixOpt).
func header(e *view.Entry, local bool) string {
	mode, size, link := e.Mode&0o7777, int64(0), ""
	var major, minor int64
	switch e.Type {
	case view.TypeRegular, view.TypeSocket:
		size = e.Size
	case view.TypeSymlink:
		mode, link = 0o777, e.Linkname
	case view.TypeChar, view.TypeBlock:
		if local {
			major, minor = e.Major, e.Minor
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "namemode%duid%dgid%dsize%dtypeflag%clinkname%sunamegnamedevmajor%ddevminor%d",
		mode, e.UID, e.GID, size, typeFlags[e.Type], link, major, minor)
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		if countedXattr(name) {
			b.WriteString(name + e.Xattrs[name])
		}
	}
	return b.String()
}

// countedXattr reports whether a digest includes an extended attribute. Attributes of security modules and ACLs of the host
// are left out.
func countedXattr(name string) bool {
	return name == "security.capability" || !strings.HasPrefix(name, "security.") && !strings.HasPrefix(name, "system.")
}
