package table

import (
	"bufio"
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// replace writes a file of the records of old that are kept, and of those that were added, and renames it into place.
// The caller holds the lock.
func (t *Table) replace(old *file, added []string, keep func(key []byte) bool) error {
	tmp := t.path + ".new" // one name: what a killed process leaves does not pile up
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(t.write(f, old, added, keep), f.Close())
	if err == nil {
		err = os.Rename(tmp, t.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// write writes the records first, for their number is part of the header.
func (t *Table) write(f *os.File, old *file, added []string, keep func(key []byte) bool) error {
	if _, err := f.Seek(headerSize, 0); err != nil {
		return err
	}
	w := &writer{Writer: bufio.NewWriterSize(f, 256<<10), format: t.format}
	ok := guarded(func() bool {
		if t.format.ValueSize == 0 {
			n := 0
			t.merged(old, added, keep, func([]byte, []byte, []byte) { n++ })
			w.next = headerSize + uint64(n*t.format.recordSize())
		}
		t.merged(old, added, keep, w.record)
		if t.format.ValueSize == 0 {
			t.merged(old, added, keep, func(_, value, _ []byte) { _, _ = w.Write(value) })
		}
		return true
	})
	if !ok {
		return unix.EIO
	}
	if err := w.Flush(); err != nil { // the first error of all writes
		return err
	}
	_, err := f.WriteAt(t.format.header(w.count), 0)
	return err
}

// writer writes the records of a table.
type writer struct {
	*bufio.Writer
	format Format
	count  int
	next   uint64 // the position of the next value
	buf    []byte
}

// record writes a record of a key and a value. whole is the record as another file has it, nil if none has.
func (w *writer) record(key, value, whole []byte) {
	w.count++
	if w.format.ValueSize > 0 && whole != nil {
		_, _ = w.Write(whole) // Flush returns the error
		return
	}
	w.buf = append(w.buf[:0], key...)
	var sum uint32
	if w.format.ValueSize > 0 {
		w.buf = append(w.buf, value...)
		sum = checksum(w.buf)
	} else {
		w.buf = binary.LittleEndian.AppendUint64(w.buf, w.next)
		w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(value)))
		sum = checksum2(w.buf, value)
		w.next += uint64(len(value))
	}
	w.buf = binary.LittleEndian.AppendUint32(w.buf, sum)
	_, _ = w.Write(w.buf)
}
