package view

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"runtime/debug"
	"sort"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// table is a file of keys and values of fixed lengths, sorted by key, that is searched where it lies: however long it
// is, opening it reads nothing and a search touches a few pages. Each record ends with a CRC-32C of its own, for the file
// is not synced to disk: a damaged record counts as missing.
type table struct {
	records []byte // mapped
	keyLen  int
	length  int      // of a record
	found   []uint64 // a bit for each record that was asked for
}

const crcSize = 4

// openTable maps a table. A file that is missing, or not such a table, counts as empty.
func openTable(path, magic string, keyLen, valueLen int) *table {
	t := &table{keyLen: keyLen, length: keyLen + valueLen + crcSize}
	f, err := os.Open(path)
	if err != nil {
		return t
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || info.Size() <= int64(len(magic)) || (info.Size()-int64(len(magic)))%int64(t.length) != 0 {
		return t
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return t
	}
	if !beginsWith(data, magic) {
		_ = unix.Munmap(data)
		return t
	}
	t.records = data[len(magic):]
	t.found = make([]uint64, t.len()/64+1)
	return t
}

// beginsWith is bytes.HasPrefix of a mapping, of which a disk may fail to give the first page.
func beginsWith(data []byte, magic string) (ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return bytes.HasPrefix(data, []byte(magic))
}

func (t *table) len() int { return len(t.records) / t.length }

func (t *table) record(i int) []byte { return t.records[i*t.length : (i+1)*t.length] }

func (t *table) key(i int) []byte { return t.record(i)[:t.keyLen] }

// value returns the value of record i, nil if the record is damaged.
func (t *table) value(i int) []byte {
	r := t.record(i)
	body := r[:t.length-crcSize]
	if !bytes.Equal(appendCRC(nil, body), r[len(body):]) {
		return nil
	}
	return body[t.keyLen:]
}

// find returns the value of a key, nil if there is none. It is safe for concurrent use.
func (t *table) find(key []byte) (value []byte) {
	// A disk that cannot be read shows as a fault in the mapping.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			value = nil
		}
	}()
	i, ok := t.search(key)
	if !ok {
		return nil
	}
	atomic.OrUint64(&t.found[i/64], 1<<(i%64))
	return bytes.Clone(t.value(i))
}

func (t *table) search(key []byte) (int, bool) {
	i := sort.Search(t.len(), func(i int) bool { return bytes.Compare(t.key(i), key) >= 0 })
	return i, i < t.len() && bytes.Equal(t.key(i), key)
}

// wasFound reports whether find has been asked for a key, and has found it.
func (t *table) wasFound(key []byte) bool {
	i, ok := t.search(key)
	return ok && atomic.LoadUint64(&t.found[i/64])&(1<<(i%64)) != 0
}

// pair is a key and its value, one behind the other.
type pair []byte

// merge writes a table of this one's records and of added, which are sorted and win; keep chooses among the former.
func (t *table) merge(path, magic string, added []pair, keep func(key []byte) bool) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = unix.EIO
		}
	}()
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	_, _ = w.WriteString(magic) // the writer keeps its first error for Flush
	i := 0
	old := func(until []byte) {
		for ; i < t.len() && (until == nil || bytes.Compare(t.key(i), until) < 0); i++ {
			if t.value(i) != nil && keep(t.key(i)) {
				_, _ = w.Write(t.record(i))
			}
		}
	}
	for _, p := range added {
		key := p[:t.keyLen]
		old(key)
		if i < t.len() && bytes.Equal(t.key(i), key) {
			i++
		}
		writeRecord(w, p)
	}
	old(nil)
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendCRC(b, data []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(data, castagnoli))
}

func writeRecord(w io.Writer, p pair) {
	_, _ = w.Write(p)
	_, _ = w.Write(appendCRC(nil, p))
}
