package layer

import (
	"fmt"
	"path"
	"strings"
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

// entryName cleans a name that an archive gives, absolute or relative, or refuses it: an archive has no business outside
// the root, so a ".." is an error even where it would lead back inside.
func entryName(raw string) (string, error) {
	if raw == "" {
		return "", fmt.Errorf("layer entry without a name")
	}
	for part := range strings.SplitSeq(raw, "/") {
		switch {
		case part == "..":
			return "", fmt.Errorf("layer entry %q escapes the root", raw)
		case len(part) > maxNameSize:
			return "", fmt.Errorf("layer entry %.80q… has too long a name", raw)
		}
	}
	name := strings.TrimPrefix(path.Clean("/"+raw), "/")
	if name == "" {
		return ".", nil
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
)

// readMark tells a whiteout from a file; name becomes the file or directory that it is about. A whiteout of "..", of "."
// or of nothing is refused, and so is a file inside of what a whiteout's name is.
func readMark(name string) (string, mark, error) {
	dir, base := splitPath(name)
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
		return joinPath(dir, gone), markWhiteout, nil
	}
}
