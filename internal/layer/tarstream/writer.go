package tarstream

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/micabuild/mica/internal/view"
)

// The canonical tar is POSIX.1-2001 (pax): one ustar header per entry, preceded by an extended header only where ustar
// cannot describe the entry. Its bytes depend on the entries alone and must never change: they are the layer's identity. That is
// why no library, whose choices may change, writes them.
const (
	blockSize   = 512
	maxOctal7   = 0o7777777     // mode, uid, gid, devmajor, devminor
	maxOctal11  = 0o77777777777 // size, mtime
	maxField    = 100           // bytes of the name and linkname fields
	xattrRecord = "SCHILY.xattr."
)

// zeroBlocks is the end of an archive, and all of an empty one.
var zeroBlocks [2 * blockSize]byte

// Writer writes entries in the canonical form.
type Writer struct {
	w   io.Writer
	n   int64
	buf []byte
}

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Offset is the number of bytes written.
func (t *Writer) Offset() int64 { return t.n }

// Header writes the header of e. If e has content, it is written with Write, and Pad follows.
func (t *Writer) Header(e *view.Entry) error {
	h, records, err := newHeader(e)
	if err != nil {
		return err
	}
	t.buf = h.append(t.buf[:0], records)
	if e.Opaque {
		marker := rawHeader{name: opaqueMarker(e.Path), mode: 0o644, flag: '0'}
		t.buf = marker.append(t.buf, longFields(nil, &marker))
	}
	_, err = t.Write(t.buf)
	return err
}

// Write writes content.
func (t *Writer) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.n += int64(n)
	return n, err
}

// Pad fills the last block of a content.
func (t *Writer) Pad() error {
	_, err := t.Write(zeroBlocks[:padding(t.n)])
	return err
}

// End writes the end of the archive.
func (t *Writer) End() error {
	_, err := t.Write(zeroBlocks[:])
	return err
}

func padding(n int64) int64 { return -n & (blockSize - 1) }

// rawHeader is the content of one ustar header block.
type rawHeader struct {
	name, link   string
	flag         byte
	mode         uint32
	uid, gid     int64
	size, mtime  int64
	major, minor int64
}

// newHeader turns an entry into its header and the extended records that ustar has no room for.
func newHeader(e *view.Entry) (*rawHeader, map[string]string, error) {
	h := &rawHeader{name: e.Path, mode: e.Mode & 0o7777, uid: int64(e.UID), gid: int64(e.GID)}
	records := map[string]string(nil)
	switch {
	case e.Type == view.TypeWhiteout:
		*h = rawHeader{name: whiteoutName(e.Path), mode: 0o644, flag: '0'}
		return h, longFields(records, h), nil
	case e.Hardlink != "":
		h.flag, h.link = '1', e.Hardlink
	case e.Type == view.TypeRegular:
		h.flag, h.size = '0', e.Size
	case e.Type == view.TypeDir:
		h.flag, h.name = '5', e.Path+"/"
	case e.Type == view.TypeSymlink:
		h.flag, h.link = '2', e.Linkname
	case e.Type == view.TypeChar:
		h.flag, h.major, h.minor = '3', e.Major, e.Minor
	case e.Type == view.TypeBlock:
		h.flag, h.major, h.minor = '4', e.Major, e.Minor
	case e.Type == view.TypeFifo:
		h.flag = '6'
	default:
		return nil, nil, fmt.Errorf("%q cannot be kept in a layer", e.Path)
	}
	if h.uid < 0 || h.gid < 0 || h.major < 0 || h.major > maxOctal7 || h.minor < 0 || h.minor > maxOctal7 {
		return nil, nil, fmt.Errorf("%q has an owner or device number that cannot be kept in a layer", e.Path)
	}
	records = longFields(records, h)
	records = timeRecord(records, h, e.ModTime)
	for name, value := range e.Xattrs {
		if strings.ContainsAny(name, "=\x00") || name == "" {
			return nil, nil, fmt.Errorf("%q has an extended attribute that cannot be kept in a layer: %q", e.Path, name)
		}
		set(&records, xattrRecord+name, value)
	}
	return h, records, nil
}

// longFields moves what does not fit in its ustar field to an extended record. Names of 100 bytes or fewer stand in
// their field whatever their bytes are: every reader takes those as they are, while readers differ about records that
// are not UTF-8.
func longFields(records map[string]string, h *rawHeader) map[string]string {
	if len(h.name) > maxField {
		set(&records, "path", h.name)
		h.name = strings.TrimRight(h.name[:maxField], "/")
	}
	if len(h.link) > maxField {
		set(&records, "linkpath", h.link)
		h.link = h.link[:maxField]
	}
	for _, f := range []struct {
		name  string
		value *int64
		most  int64
	}{{"uid", &h.uid, maxOctal7}, {"gid", &h.gid, maxOctal7}, {"size", &h.size, maxOctal11}} {
		if *f.value > f.most {
			set(&records, f.name, strconv.FormatInt(*f.value, 10))
			*f.value = 0
		}
	}
	return records
}

// timeRecord keeps times to the nanosecond: as an extended record where ustar's whole seconds since 1970 are not enough.
func timeRecord(records map[string]string, h *rawHeader, t time.Time) map[string]string {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	sec, nsec := t.Unix(), t.Nanosecond()
	h.mtime = min(max(sec, 0), maxOctal11)
	if nsec == 0 && h.mtime == sec {
		return records
	}
	sign := ""
	if sec < 0 {
		sign, sec = "-", -sec
		if nsec > 0 {
			sec, nsec = sec-1, 1e9-nsec
		}
	}
	value := sign + strconv.FormatInt(sec, 10)
	if nsec > 0 {
		value += strings.TrimRight(fmt.Sprintf(".%09d", nsec), "0")
	}
	set(&records, "mtime", value)
	return records
}

func set(records *map[string]string, key, value string) {
	if *records == nil {
		*records = make(map[string]string, 2)
	}
	(*records)[key] = value
}

// append appends the header to b, after an extended header if there are records, which are sorted by key.
func (h *rawHeader) append(b []byte, records map[string]string) []byte {
	if len(records) > 0 {
		var body []byte
		for _, key := range slices.Sorted(maps.Keys(records)) {
			body = appendRecord(body, key, records[key])
		}
		pax := rawHeader{name: "././@PaxHeader", mode: 0o644, size: int64(len(body)), flag: 'x'}
		b = pax.appendBlock(b)
		b = append(b, body...)
		b = append(b, zeroBlocks[:padding(int64(len(body)))]...)
	}
	return h.appendBlock(b)
}

// appendRecord appends "LENGTH KEY=VALUE\n", where LENGTH counts its own digits.
func appendRecord(b []byte, key, value string) []byte {
	rest := len(key) + len(value) + 3
	size := rest + len(strconv.Itoa(rest))
	if len(strconv.Itoa(size)) > len(strconv.Itoa(rest)) {
		size++
	}
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(b, ' ')
	b = append(b, key...)
	b = append(b, '=')
	b = append(b, value...)
	return append(b, '\n')
}

// appendBlock appends the 512 bytes of the ustar header (POSIX.1-2001, pax, "ustar Interchange Format").
func (h *rawHeader) appendBlock(b []byte) []byte {
	start := len(b)
	b = append(b, zeroBlocks[:blockSize]...)
	block := b[start:]
	copy(block[0:100], h.name)
	octal(block[100:108], int64(h.mode))
	octal(block[108:116], h.uid)
	octal(block[116:124], h.gid)
	octal(block[124:136], h.size)
	octal(block[136:148], h.mtime)
	copy(block[148:156], "        ")
	block[156] = h.flag
	copy(block[157:257], h.link)
	copy(block[257:265], "ustar\x0000")
	octal(block[329:337], h.major)
	octal(block[337:345], h.minor)
	sum := int64(0)
	for _, c := range block {
		sum += int64(c)
	}
	octal(block[148:155], sum) // six digits, NUL, space
	return b
}

// octal fills field with the digits of v, zero-padded, and a final NUL.
func octal(field []byte, v int64) {
	last := len(field) - 1
	field[last] = 0
	for i := last - 1; i >= 0; i-- {
		field[i] = byte('0' + v&7)
		v >>= 3
	}
}
