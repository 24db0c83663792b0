package erofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// dirent is one name in a directory.
type dirent struct {
	name string
	nid  uint64
	kind byte // see fileType
}

func byName(a, b dirent) int { return strings.Compare(a.name, b.name) }

// lookup finds a name in a sorted list.
func lookup(list []dirent, name string) (dirent, bool) {
	at, ok := slices.BinarySearchFunc(list, dirent{name: name}, byName)
	if !ok {
		return dirent{}, false
	}
	return list[at], true
}

// appendBlock adds one block of a directory: its entries, then their names.
func appendBlock(b []byte, list []dirent) []byte {
	le := binary.LittleEndian
	offset := len(list) * direntSize
	for _, e := range list {
		b = le.AppendUint64(b, e.nid)
		b = le.AppendUint16(b, uint16(offset))
		b = append(b, e.kind, 0)
		offset += len(e.name)
	}
	for _, e := range list {
		b = append(b, e.name...)
	}
	return b
}

// appendDirents adds the entries of one block of a directory, without "." and "..".
func appendDirents(list []dirent, b []byte) ([]dirent, error) {
	bad := fmt.Errorf("%w: invalid block of a directory", ErrDamaged)
	le := binary.LittleEndian
	if len(b) < direntSize {
		return nil, bad
	}
	first := int(le.Uint16(b[8:]))
	if first%direntSize != 0 || first == 0 || first > len(b) {
		return nil, bad
	}
	for at := 0; at < first; at += direntSize {
		from, to := int(le.Uint16(b[at+8:])), len(b)
		if next := at + direntSize; next < first {
			to = int(le.Uint16(b[next+8:]))
		}
		if from < first || to < from || to > len(b) {
			return nil, bad
		}
		name := string(bytes.TrimRight(b[from:to], "\x00"))
		if name == "." || name == ".." {
			continue
		}
		if n := len(list); n > 0 && list[n-1].name >= name || bytes.ContainsRune([]byte(name), '/') || name == "" {
			return nil, bad
		}
		list = append(list, dirent{name, le.Uint64(b[at:]), b[at+10]})
	}
	return list, nil
}
