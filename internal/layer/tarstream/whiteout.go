package tarstream

import (
	"path"
	"strings"
)

// Removals in a tar are empty files with these names (OCI image-spec, layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueBase     = ".wh..wh..opq"
	aufsPrefix     = ".wh..wh." // AUFS's own files, and the opaque marker
	aufsLinks      = ".wh..wh.plnk"
)

// whiteoutName returns the name of the member that removes name.
func whiteoutName(name string) string {
	dir, base := path.Split(name)
	return dir + whiteoutPrefix + base
}

// opaqueMarker returns the name of the member that makes dir opaque.
func opaqueMarker(dir string) string { return path.Join(dir, opaqueBase) }

// marksRemoval reports whether a file of this name would be read as a whiteout, in any component.
func marksRemoval(name string) bool {
	return strings.HasPrefix(name, whiteoutPrefix) || strings.Contains(name, "/"+whiteoutPrefix)
}
