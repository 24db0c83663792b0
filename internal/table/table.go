// Package table is the on-disk cache of keys and values that mica's other caches are kept in: digests of host files,
// names, checksums of other build caches.
//
// A table is one file, sorted by key, that is searched in a memory mapping: opening it reads nothing, and a lookup touches
// a few pages, however long the table is. Many processes may use a table at once. Readers take no lock; a writer merges
// what it adds with the file as it is then, under flock(2), and renames the result into place. So a process that is
// killed leaves the old file or the new one.
//
// Files are not synced to disk. Each record has a CRC-32C instead, which covers its key and its value: after a power cut, or
// on a damaged disk, a record is found as it was written or not at all. What is lost is computed again by the caller.
//
// # Format
//
// Numbers are little-endian. The header has 32 bytes: the magic, which the user of the table chooses (16 bytes), the number of
// records (8), zeros (4), and the CRC-32C of what comes before it (4). The records follow, sorted bytewise by key. Where
// all values have one length, a record is key, value, CRC-32C of both. Where they have not, it is key, position of the value in
// the file (8 bytes), length of the value (4), CRC-32C of all these and of the value (4); the values stand behind the records,
// in their order.
package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/micabuild/mica/internal/flock"
)

// Format is what all files of one kind of table have in common.
type Format struct {
	Magic     string // magicSize bytes: the name of the kind, and its version
	KeySize   int    // bytes of a key
	ValueSize int    // bytes of a value, 0 for values of any length
}

// Table is an open table. It is safe for concurrent use.
type Table struct {
	path   string
	format Format
	file   *file // as it was when the table was opened

	mu    sync.RWMutex
	added map[string]string // values by key
	fresh bool              // something was added since the last Save
}

// Open opens the table at path. It is a cache: a file that is missing, damaged, or of another format counts as empty, and the
// next Save replaces it.
func Open(path string, f Format) *Table {
	return &Table{path: path, format: f, file: openFile(path, f), added: map[string]string{}}
}

// Close releases the mapping. Afterwards the table has only what was put.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.file.close()
}

// Get returns the value of a key. The caller may keep and change it.
func (t *Table) Get(key []byte) (value []byte, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if v, ok := t.added[string(key)]; ok {
		return []byte(v), true
	}
	return t.file.get(key)
}

// Put adds a value or replaces it. A key or a value of another length than the format's is a mistake of the caller, and
// panics.
func (t *Table) Put(key, value []byte) {
	if len(key) != t.format.KeySize || t.format.ValueSize > 0 && len(value) != t.format.ValueSize || len(value) > maxValue {
		panic(fmt.Sprintf("table %s: key of %d bytes, value of %d", strings.TrimSpace(t.format.Magic), len(key), len(value)))
	}
	record := string(key) + string(value)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.added[record[:len(key)]] = record[len(key):]
	t.fresh = true
}

// Save merges what was added with the file as it is now. Where the result would have more than limit records, only those
// stay that this Table was asked for and had, or got by Put. Save waits for other processes that save, until ctx ends.
func (t *Table) Save(ctx context.Context, limit int) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.fresh {
		return nil
	}
	lock, err := flock.Open(ctx, t.path+".lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	now := openFile(t.path, t.format)
	defer func() { err = errors.Join(err, now.close()) }()
	keep := func([]byte) bool { return true }
	if now.count+len(t.added) > limit {
		keep = t.file.usedKeys()
	}
	added := slices.SortedFunc(maps.Keys(t.added), strings.Compare)
	if err := t.replace(now, added, keep); err != nil {
		return err
	}
	t.fresh = false
	return nil
}

// merged calls yield with the records of a file and those that were added, sorted by key. Of the file's it leaves out those
// that are damaged, out of order, replaced, or not to be kept. whole is a record of the file, nil for one that was added.
func (t *Table) merged(f *file, added []string, keep func(key []byte) bool, yield func(key, value, whole []byte)) {
	var last, next, value []byte
	emit := func() {
		value = append(value[:0], t.added[added[0]]...)
		yield(next, value, nil)
		added = added[1:]
		if len(added) > 0 {
			next = []byte(added[0])
		}
	}
	if len(added) > 0 {
		next = []byte(added[0])
	}
	for i := range f.count {
		record := f.record(i)
		key := record[:t.format.KeySize]
		old, ok := f.value(record)
		if !ok || last != nil && bytes.Compare(key, last) <= 0 {
			continue
		}
		last = key
		order := 1
		for len(added) > 0 {
			if order = bytes.Compare(next, key); order >= 0 {
				break
			}
			emit()
		}
		if (len(added) == 0 || order > 0) && keep(key) {
			yield(key, old, record)
		}
	}
	for len(added) > 0 {
		emit()
	}
}
