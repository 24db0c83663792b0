package tarstream

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

const maxName = 255 // NAME_MAX

// validPath reports whether name is what Entry.Path promises: relative, clean, inside the root, without NUL bytes.
func validPath(name string) bool {
	if name == "." {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || len(part) > maxName {
			return false
		}
	}
	return len(name) < unix.PathMax && !strings.Contains(name, "\x00")
}

// entryName cleans a name of an archive, absolute or relative, by its text alone, as Docker and containerd do. It
// refuses a name that leads out of the root. The root itself, and an empty name, become ".".
func entryName(raw string) (string, error) {
	name := path.Clean(raw)
	if name == ".." || strings.HasPrefix(name, "../") {
		return "", fmt.Errorf("layer entry %q escapes the root", raw)
	}
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return ".", nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return "", fmt.Errorf("layer entry %.80q… has too long a name", raw)
		}
	}
	if !validPath(name) {
		return "", fmt.Errorf("layer entry %.80q… has a name that cannot be used", raw)
	}
	return name, nil
}

// Kind is the meaning of a tar's member in a layer.
type Kind int

// The kinds of members. Docker ignores other files of AUFS, and so does a Reader.
const (
	File     Kind = iota // a file of any type
	Removal              // the name is removed from the layers below
	Opaque               // the directory hides what the layers below have in it
	Whiteout             // a removal in overlayfs's form, a device 0:0: it replaces what the layer has of that name, too
	Nameless             // the content of a file that AUFS had several names for: hard links name it
	ignored
)

// kindOf returns the meaning of a member's name, and the name of the file or directory that it is about. A whiteout of "..", of
// "." or of nothing is refused, and so is a file inside a whiteout.
func kindOf(name string) (string, Kind, error) {
	dir, base := view.Split(name)
	if dir == aufsLinks {
		return name, Nameless, nil
	}
	if strings.HasPrefix(name, aufsPrefix) && base != opaqueBase {
		return name, ignored, nil
	}
	if marksRemoval(dir) {
		return "", File, fmt.Errorf("layer entry %q is inside a whiteout", name)
	}
	switch gone := strings.TrimPrefix(base, whiteoutPrefix); {
	case base == opaqueBase:
		return dir, Opaque, nil
	case strings.HasPrefix(base, aufsPrefix):
		return name, ignored, nil
	case gone == base:
		return name, File, nil
	case gone == "" || gone == "." || gone == "..":
		return "", File, fmt.Errorf("layer entry %q removes a name that no file can have", name)
	default:
		return view.Join(dir, gone), Removal, nil
	}
}
