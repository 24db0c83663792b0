package view

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

type sum [32]byte

// Memory remembers the digests of host files by (device, inode, size, mtime, ctime), so that an unchanged file is not
// read again. It is safe for concurrent use.
type Memory struct {
	path string

	mu    sync.Mutex
	known map[fileKey]sum
	used  map[fileKey]sum // what this build learned or relied on
	fresh bool            // used holds something that known does not
}

// memoryMagic begins a memory file: the name of the format and its version.
const memoryMagic = "mica-digests-1\n\x00"

// maxRemembered bounds the file (72 bytes a record): past it, only what the last build used is kept.
const maxRemembered = 1 << 20

// recordSize is the length of one record: five numbers and a sha256.
const recordSize = 5*8 + 32

// OpenMemory loads the memory that is kept in folder dir. It is a cache: a missing or damaged file counts as empty.
func OpenMemory(dir string) (*Memory, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("remembered digests: %w", err)
	}
	m := &Memory{path: filepath.Join(dir, "files"), used: map[fileKey]sum{}}
	m.known = readMemory(m.path)
	return m, nil
}

// readMemory reads a memory file: the magic, the records, and the sha256 of both.
func readMemory(path string) map[fileKey]sum {
	data, err := os.ReadFile(path)
	body := len(data) - 32
	if err != nil || body < len(memoryMagic) || (body-len(memoryMagic))%recordSize != 0 ||
		!bytes.HasPrefix(data, []byte(memoryMagic)) || string(digestBytes(data[:body])) != string(data[body:]) {
		return map[fileKey]sum{}
	}
	records := data[len(memoryMagic):body]
	known := make(map[fileKey]sum, len(records)/recordSize)
	for ; len(records) > 0; records = records[recordSize:] {
		n := func(i int) uint64 { return binary.LittleEndian.Uint64(records[i*8:]) }
		known[fileKey{n(0), n(1), int64(n(2)), int64(n(3)), int64(n(4))}] = sum(records[40:recordSize])
	}
	return known
}

func digestBytes(data []byte) []byte {
	h := digest.SHA256.Hash()
	h.Write(data)
	return h.Sum(nil)
}

// lookup returns a remembered digest.
func (m *Memory) lookup(k fileKey) (digest.Digest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.used[k]
	if !ok {
		if s, ok = m.known[k]; ok {
			m.used[k] = s
		}
	}
	if !ok {
		return "", false
	}
	return digest.NewDigestFromBytes(digest.SHA256, s[:]), true
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
	if !settled(k, read) {
		return
	}
	var s sum
	raw, err := hexBytes(d)
	if err != nil {
		return
	}
	copy(s[:], raw)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used[k] = s
	m.fresh = true
}

// Save writes back what was learned, together with what other processes have saved since, by rename.
func (m *Memory) Save() (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.fresh {
		return nil
	}
	lock, err := os.OpenFile(m.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("remember digests: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("remember digests: %w", err)
	}
	all := readMemory(m.path)
	if len(all)+len(m.used) > maxRemembered {
		all = map[fileKey]sum{}
	}
	for k, s := range m.used {
		all[k] = s
	}
	m.fresh = false
	if err := writeMemory(m.path, all); err != nil {
		return fmt.Errorf("remember digests: %w", err)
	}
	return nil
}

// writeMemory is not synced to disk: after a crash the checksum tells, and the memory is empty.
func writeMemory(path string, all map[fileKey]sum) error {
	buf := make([]byte, 0, len(memoryMagic)+len(all)*recordSize+32)
	buf = append(buf, memoryMagic...)
	for k, s := range all {
		for _, n := range []uint64{k.Dev, k.Ino, uint64(k.Size), uint64(k.MTime), uint64(k.CTime)} {
			buf = binary.LittleEndian.AppendUint64(buf, n)
		}
		buf = append(buf, s[:]...)
	}
	buf = append(buf, digestBytes(buf)...)
	tmp := path + ".new"
	if err := os.WriteFile(tmp, buf, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
