package view

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Listing is the list of the files that a copy reads. It explains a SelectionDigest: two selections with different digests have
// different listings.
type Listing struct {
	lines []byte // what the digest is made of
	ends  []int  // of the lines
	sizes []int64
	large bool // the list is incomplete: it has more bytes than maxListing
}

// maxListing bounds the bytes of a listing.
const maxListing = 64 << 20

// ErrLarge is the error of List for a list that is too large to keep.
var ErrLarge = errors.New("too many files to list")

func (l *Listing) add(line []byte, size int64) {
	switch {
	case l == nil || l.large:
	case len(l.lines)+len(line) > maxListing:
		*l = Listing{large: true}
	default:
		l.lines = append(l.lines, line...)
		l.ends = append(l.ends, len(l.lines))
		l.sizes = append(l.sizes, size)
	}
}

// List lists what SelectionDigest with the same arguments makes the digest of.
func List(ctx context.Context, from View, src string, opt CopyOptions) (*Listing, error) {
	l := &Listing{}
	_, err := computeSelection(ctx, from, src, selectionOptions(opt), l)
	if err == nil && l.large {
		err = ErrLarge
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Digest is the digest of the selection.
func (l *Listing) Digest() digest.Digest { return digest.FromBytes(l.lines) }

// Marshal returns the listing as bytes for UnmarshalListing.
func (l *Listing) Marshal() []byte {
	data := make([]byte, 0, len(l.lines)+8*len(l.ends))
	data = binary.AppendUvarint(data, uint64(len(l.ends)))
	start := 0
	for i, end := range l.ends {
		data = binary.AppendUvarint(data, uint64(end-start))
		data = binary.AppendUvarint(data, uint64(l.sizes[i]))
		start = end
	}
	return append(data, l.lines...)
}

var errListing = errors.New("the list of files is damaged")

// UnmarshalListing reads what Marshal returned.
func UnmarshalListing(data []byte) (*Listing, error) {
	number := func() uint64 {
		n, used := binary.Uvarint(data)
		if used <= 0 {
			data = nil
			return math.MaxUint64
		}
		data = data[used:]
		return n
	}
	n := number()
	if n > uint64(len(data))/2 {
		return nil, errListing
	}
	l := &Listing{ends: make([]int, n), sizes: make([]int64, n)}
	end := uint64(0)
	for i := range l.ends {
		length, size := number(), number()
		if length > maxListing {
			return nil, errListing
		}
		end += length
		l.ends[i], l.sizes[i] = int(end), int64(size)
	}
	if end != uint64(len(data)) {
		return nil, errListing
	}
	l.lines = data
	return l, nil
}

// line returns line i.
func (l *Listing) line(i int) []byte {
	start := 0
	if i > 0 {
		start = l.ends[i-1]
	}
	return l.lines[start:l.ends[i]]
}

// without returns the entries of the lines that other does not have. The lines below from and from to on are the same in both.
func (l *Listing) without(other *Listing, src string, from, tail int) ([]*Entry, error) {
	have := map[string]bool{}
	for i := from; i < len(other.ends)-tail; i++ {
		have[string(other.line(i))] = true
	}
	base := sourcePath(src)
	var list []*Entry
	for i := from; i < len(l.ends)-tail; i++ {
		if have[string(l.line(i))] {
			continue
		}
		p := entryParser{rest: l.line(i)}
		e := p.entry()
		if p.bad || len(p.rest) > 0 {
			return nil, errListing
		}
		e.Size = l.sizes[i]
		e.Path, e.Hardlink = inSource(base, e.Path), inSource(base, e.Hardlink)
		list = append(list, e)
	}
	return list, nil
}

// sourcePath is the path in the source that a selection's files are below. A pattern matches in several directories: the paths of
// what it matches begin after it.
func sourcePath(src string) string {
	base := path.Clean("/" + src)
	if hasWildcard(base) {
		base = path.Clean("/" + BeforeWildcard(base))
	}
	return strings.TrimPrefix(base, "/")
}

// inSource is the path in the source of a file in a selection.
func inSource(base, name string) string {
	below, ok := strings.CutPrefix(name, selectionRoot)
	if !ok {
		return name
	}
	return cmp.Or(strings.TrimPrefix(path.Join(base, below), "/"), ".")
}

// FileChange is a difference between two listings.
type FileChange struct {
	Old, New *Entry // nil for a file that one of them does not have
}

// Differences compares two listings of one source, and returns the files that differ, by their paths in it.
func Differences(old, now *Listing, src string) ([]FileChange, error) {
	shorter := min(len(old.ends), len(now.ends))
	head, tail := 0, 0
	for head < shorter && bytes.Equal(old.line(head), now.line(head)) {
		head++
	}
	for tail < shorter-head && bytes.Equal(old.line(len(old.ends)-1-tail), now.line(len(now.ends)-1-tail)) {
		tail++
	}
	removed, err := old.without(now, src, head, tail)
	if err != nil {
		return nil, err
	}
	added, err := now.without(old, src, head, tail)
	if err != nil {
		return nil, err
	}
	before := map[string]*Entry{}
	for _, e := range removed {
		before[e.Path] = e
	}
	var list []FileChange
	for _, e := range added {
		list = append(list, FileChange{before[e.Path], e})
		delete(before, e.Path)
	}
	for _, e := range before {
		list = append(list, FileChange{e, nil})
	}
	slices.SortFunc(list, func(a, b FileChange) int { return strings.Compare(a.Path(), b.Path()) })
	return list, nil
}

// Path is the path of the file.
func (c FileChange) Path() string {
	if c.New != nil {
		return c.New.Path
	}
	return c.Old.Path
}

// entryParser reads what appendEntry writes.
type entryParser struct {
	rest []byte
	bad  bool
}

func (p *entryParser) number(base int, end byte) int64 {
	i := bytes.IndexByte(p.rest, end)
	if i < 0 {
		p.bad = true
		return 0
	}
	n, err := strconv.ParseInt(string(p.rest[:i]), base, 64)
	p.bad = p.bad || err != nil
	p.rest = p.rest[i+1:]
	return n
}

func (p *entryParser) text() string {
	n := p.number(10, ':')
	if p.bad || n < 0 || n > int64(len(p.rest)) {
		p.bad = true
		return ""
	}
	s := string(p.rest[:n])
	p.rest = p.rest[n:]
	return s
}

// digestLength is the length of "sha256:" and a sum.
const digestLength = len("sha256:") + 64

func (p *entryParser) entry() *Entry {
	e := &Entry{Path: p.text(), Type: Type(p.number(10, ',')), Mode: uint32(p.number(8, ','))}
	e.UID, e.GID = int(p.number(10, ',')), int(p.number(10, ','))
	e.Linkname, e.Hardlink = p.text(), p.text()
	e.Major, e.Minor = p.number(10, ','), p.number(10, ',')
	if bytes.HasPrefix(p.rest, []byte("sha256:")) && len(p.rest) >= digestLength {
		e.Digest = digest.Digest(p.rest[:digestLength])
		p.rest = p.rest[digestLength:]
	}
	for !p.bad && len(p.rest) > 0 && p.rest[0] == ';' {
		p.rest = p.rest[1:]
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		k := p.text()
		e.Xattrs[k] = p.text()
	}
	if p.bad || len(p.rest) == 0 || p.rest[0] != '\n' {
		p.bad = true
		return e
	}
	p.rest = p.rest[1:]
	return e
}
