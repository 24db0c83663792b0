package layer

import (
	"fmt"
	"path"
	"strings"

	"github.com/micabuild/mica/internal/view"
)

// validPath says whether name is what Entry.Path promises: relative, clean, within the root. Any bytes but NUL.
func validPath(name string) bool {
	if name == "." {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || len(part) > maxNameSize {
			return false
		}
	}
	return len(name) < maxPath && !strings.Contains(name, "\x00")
}

// entryName cleans a name that an archive gives, absolute or relative, as Docker and containerd do: by its text alone. It
// refuses one that leads out of the root. The root itself is ".", as is no name at all.
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
		if len(part) > maxNameSize {
			return "", fmt.Errorf("layer entry %.80q… has too long a name", raw)
		}
	}
	if !validPath(name) {
		return "", fmt.Errorf("layer entry %.80q… has a name that cannot be used", raw)
	}
	return name, nil
}

// mark is what the name of a tar entry says beside which file it is.
type mark int

const (
	markNone     mark = iota
	markWhiteout      // the name is removed
	markOpaque        // the directory hides what lower layers have in it
	markIgnored       // AUFS's own files, which Docker ignores too
	markLinked        // a file that AUFS had several names for: hard links name it
)

// readMark tells a whiteout from a file; name becomes the file or directory that it is about. A whiteout of "..", of "."
// or of nothing is refused, and so is a file inside of what a whiteout's name is.
func readMark(name string) (string, mark, error) {
	dir, base := view.Split(name)
	if dir == aufsLinks {
		return name, markLinked, nil
	}
	if strings.HasPrefix(name, aufsPrefix) && base != opaqueBase {
		return name, markIgnored, nil
	}
	if marksRemoval(dir) {
		return "", markNone, fmt.Errorf("layer entry %q is inside a whiteout", name)
	}
	switch gone := strings.TrimPrefix(base, whiteoutPrefix); {
	case base == opaqueBase:
		return dir, markOpaque, nil
	case strings.HasPrefix(base, aufsPrefix):
		return name, markIgnored, nil
	case gone == base:
		return name, markNone, nil
	case gone == "" || gone == "." || gone == "..":
		return "", markNone, fmt.Errorf("layer entry %q removes a name that no file can have", name)
	default:
		return view.Join(dir, gone), markWhiteout, nil
	}
}
