package view

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// fileKey identifies a state of a host file: whoever changes the content changes the change time, too.
type fileKey struct {
	Dev, Ino     uint64
	Size         int64
	MTime, CTime int64 // nanoseconds
}

const (
	fileKeySize = 5 * 8
	sumSize     = 32
)

func keyOf(st *unix.Stat_t) fileKey {
	return fileKey{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

func (k fileKey) append(b []byte) []byte {
	for _, n := range []uint64{k.Dev, k.Ino, uint64(k.Size), uint64(k.MTime), uint64(k.CTime)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

type sum [sumSize]byte

// Memory remembers the digests of host files by (device, inode, size, mtime, ctime), so that an unchanged file is not
// read again; and the digests of selections by the state of all files in a folder, so that of an unchanged folder
// nothing but the metadata is looked at. It is safe for concurrent use.
type Memory struct {
	dir        string
	files      *table
	selections *table

	mu            sync.Mutex
	newFiles      map[fileKey]sum
	newSelections map[sum]sum
	fresh         bool // something was learned since the last Save
}

// The names of the files begin with the name of their format and its version.
const (
	filesMagic      = "mica-digests-2\n\x00"
	selectionsMagic = "mica-selection-1"
)

// What a memory holds at most. Past it, only what the last build used is kept.
const (
	maxFiles      = 1 << 20 // 76 bytes each
	maxSelections = 1 << 14 // 68 bytes each
)

// OpenMemory opens the memory that is kept in folder dir. It is a cache: missing or damaged files count as empty.
func OpenMemory(dir string) (*Memory, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("remembered digests: %w", err)
	}
	m := &Memory{dir: dir, newFiles: map[fileKey]sum{}, newSelections: map[sum]sum{}}
	m.files, m.selections = m.openTables()
	return m, nil
}

func (m *Memory) filesPath() string      { return filepath.Join(m.dir, "files") }
func (m *Memory) selectionsPath() string { return filepath.Join(m.dir, "selections") }

func (m *Memory) openTables() (files, selections *table) {
	return openTable(m.filesPath(), filesMagic, fileKeySize, sumSize), openTable(m.selectionsPath(), selectionsMagic, sumSize, sumSize)
}

// lookup returns a remembered digest.
func (m *Memory) lookup(k fileKey) (digest.Digest, bool) {
	m.mu.Lock()
	s, ok := m.newFiles[k]
	m.mu.Unlock()
	if ok {
		return digest.NewDigestFromBytes(digest.SHA256, s[:]), true
	}
	raw := m.files.find(k.append(make([]byte, 0, fileKeySize)))
	if raw == nil {
		return "", false
	}
	return digest.NewDigestFromBytes(digest.SHA256, raw), true
}

// settled is how old a change must be before the file's times can be trusted to change with the next one: clocks of
// filesystems tick, some only every second or two (those whose times have no fraction).
func settled(k fileKey, read time.Time) bool {
	age := 100 * time.Millisecond
	if k.CTime%int64(time.Second) == 0 {
		age = 2 * time.Second
	}
	return read.Sub(time.Unix(0, k.CTime)) > age
}

// learn remembers the digest of a file that was read from read on, if its state is old enough to be told from the next.
func (m *Memory) learn(k fileKey, d digest.Digest, read time.Time) {
	s, ok := rawSum(d)
	if !ok || !settled(k, read) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newFiles[k] = s
	m.fresh = true
}

// selection returns the remembered digest of what was selected in a state of a folder.
func (m *Memory) selection(k sum) (string, bool) {
	m.mu.Lock()
	s, ok := m.newSelections[k]
	m.mu.Unlock()
	if ok {
		return digest.NewDigestFromBytes(digest.SHA256, s[:]).String(), true
	}
	raw := m.selections.find(k[:])
	if raw == nil {
		return "", false
	}
	return digest.NewDigestFromBytes(digest.SHA256, raw).String(), true
}

// learnSelection remembers the digest of a selection.
func (m *Memory) learnSelection(k sum, d digest.Digest) {
	s, ok := rawSum(d)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newSelections[k] = s
	m.fresh = true
}

func rawSum(d digest.Digest) (s sum, ok bool) {
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil || len(raw) != sumSize {
		return s, false
	}
	copy(s[:], raw)
	return s, true
}

// Save writes back what was learned, together with what other processes have saved since, by rename.
func (m *Memory) Save() (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.fresh {
		return nil
	}
	lock, err := os.OpenFile(m.filesPath()+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("remember digests: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("remember digests: %w", err)
	}
	files := make([]pair, 0, len(m.newFiles))
	for k, s := range m.newFiles {
		files = append(files, append(k.append(make([]byte, 0, fileKeySize+sumSize)), s[:]...))
	}
	selections := make([]pair, 0, len(m.newSelections))
	for k, s := range m.newSelections {
		selections = append(selections, append(append(make([]byte, 0, 2*sumSize), k[:]...), s[:]...))
	}
	nowFiles, nowSelections := m.openTables()
	err = errors.Join(
		update(m.files, nowFiles, m.filesPath(), filesMagic, files, maxFiles),
		update(m.selections, nowSelections, m.selectionsPath(), selectionsMagic, selections, maxSelections),
	)
	if err != nil {
		return fmt.Errorf("remember digests: %w", err)
	}
	m.fresh = false
	return nil
}

// update adds to a table as it is now. One that would hold too much keeps what is new and what this process found in it.
func update(before, now *table, path, magic string, added []pair, most int) error {
	if len(added) == 0 {
		return nil
	}
	slices.SortFunc(added, func(a, b pair) int { return bytes.Compare(a, b) })
	keep := func([]byte) bool { return true }
	if now.len()+len(added) > most {
		keep = before.wasFound
	}
	return now.merge(path, magic, added, keep)
}
