package table

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"runtime/debug"
	"slices"
	"sort"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	magicSize  = 16
	headerSize = magicSize + 8 + 4 + crcSize
	crcSize    = 4
	placeSize  = 8 + 4   // of a value that stands behind the records: its position and length
	maxValue   = 1 << 24 // bytes of a value
)

// file is a table's file, mapped into memory.
type file struct {
	format Format
	data   []byte // all of it, nil for none
	length int    // of a record
	count  int    // of records
	used   []uint64
}

func (f Format) recordSize() int {
	if f.ValueSize > 0 {
		return f.KeySize + f.ValueSize + crcSize
	}
	return f.KeySize + placeSize + crcSize
}

// openFile maps a file. One that is missing, or not such a table, counts as empty.
func openFile(path string, format Format) *file {
	f := &file{format: format, length: format.recordSize()}
	data := mapFile(path)
	if data == nil {
		return f
	}
	f.data = data
	if !guarded(f.readHeader) {
		_ = unix.Munmap(data)
		f.data, f.count = nil, 0
		return f
	}
	f.used = make([]uint64, f.count/64+1)
	return f
}

func mapFile(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || info.Size() < headerSize || int64(int(info.Size())) != info.Size() {
		return nil
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	return data
}

// guarded calls do, which reads a mapping. It returns false where do does, and where the disk cannot be read: that shows as
// a fault.
func guarded(do func() bool) (ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return do()
}

// readHeader reports whether the file is a table of the format that has room for its records.
func (f *file) readHeader() bool {
	count, ok := f.format.count(f.data)
	room := uint64(len(f.data)-headerSize) / uint64(f.length)
	if !ok || count > room {
		return false
	}
	f.count = int(count)
	return true
}

func (f Format) header(count int) []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, f.Magic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(count))
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

func (f Format) count(header []byte) (uint64, bool) {
	header, sum := header[:headerSize-crcSize], binary.LittleEndian.Uint32(header[headerSize-crcSize:headerSize])
	return binary.LittleEndian.Uint64(header[magicSize:]), string(header[:magicSize]) == f.Magic && checksum(header) == sum
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// checksum2 is the checksum of a followed by b.
func checksum2(a, b []byte) uint32 { return crc32.Update(checksum(a), castagnoli, b) }

func (f *file) close() error {
	if f.data == nil {
		return nil
	}
	data := f.data
	f.data, f.count, f.used = nil, 0, nil
	return unix.Munmap(data)
}

func (f *file) record(i int) []byte {
	at := headerSize + i*f.length
	return f.data[at : at+f.length : at+f.length]
}

func (f *file) key(i int) []byte { return f.record(i)[:f.format.KeySize:f.format.KeySize] }

// value returns the value of a record; false if the record is damaged.
func (f *file) value(r []byte) ([]byte, bool) {
	body, sum := r[:f.length-crcSize], binary.LittleEndian.Uint32(r[f.length-crcSize:])
	if f.format.ValueSize > 0 {
		return body[f.format.KeySize:], checksum(body) == sum
	}
	place := body[f.format.KeySize:]
	at, n := binary.LittleEndian.Uint64(place), uint64(binary.LittleEndian.Uint32(place[8:]))
	size := uint64(len(f.data))
	if at > size || n > size-at || n > maxValue {
		return nil, false
	}
	value := f.data[at : at+n : at+n]
	return value, checksum2(body, value) == sum
}

// search returns the number of the record that has a key.
func (f *file) search(key []byte) (int, bool) {
	i := sort.Search(f.count, func(i int) bool { return bytes.Compare(f.key(i), key) >= 0 })
	return i, i < f.count && bytes.Equal(f.key(i), key)
}

// get returns a copy of the value of a key, and notes that it is used.
func (f *file) get(key []byte) (value []byte, ok bool) {
	if f.count == 0 {
		return nil, false
	}
	ok = guarded(func() bool {
		i, ok := f.search(key)
		if !ok {
			return false
		}
		if value, ok = f.value(f.record(i)); !ok {
			return false
		}
		value = append([]byte{}, value...)
		atomic.OrUint64(&f.used[i/64], 1<<(i%64))
		return true
	})
	if !ok {
		return nil, false
	}
	return value, true
}

// usedKeys returns a function that reports whether get has found a key so far.
func (f *file) usedKeys() func(key []byte) bool {
	used := slices.Clone(f.used)
	for i := range used {
		used[i] = atomic.LoadUint64(&f.used[i])
	}
	return func(key []byte) bool {
		i, ok := f.search(key)
		return ok && used[i/64]&(1<<(i%64)) != 0
	}
}
