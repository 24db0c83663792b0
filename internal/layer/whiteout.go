package layer

import (
	"path"
	"strings"
)

// Removals in a packed layer are empty files with these names (OCI image-spec, layer.md, "Whiteouts"); in a tree they
// are what overlayfs understands: character devices 0:0 and an attribute on opaque directories.
const (
	whiteoutPrefix = ".wh."
	opaqueBase     = ".wh..wh..opq"
	aufsPrefix     = ".wh..wh." // AUFS's own files, and the opaque marker
	aufsLinks      = ".wh..wh.plnk"
)

// whiteoutName is the name in a tar of the removal of name.
func whiteoutName(name string) string {
	dir, base := path.Split(name)
	return dir + whiteoutPrefix + base
}

// opaqueMarker is the name in a tar of what makes dir opaque.
func opaqueMarker(dir string) string { return path.Join(dir, opaqueBase) }

// marksRemoval says whether a file of this name would be taken for a whiteout, in any component.
func marksRemoval(name string) bool {
	return strings.HasPrefix(name, whiteoutPrefix) || strings.Contains(name, "/"+whiteoutPrefix)
}
