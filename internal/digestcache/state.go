package digestcache

import (
	"encoding/binary"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// FileState identifies a state of a host file: a write to the file changes its change time.
type FileState struct {
	Dev, Ino     uint64
	Size         int64
	MTime, CTime int64 // nanoseconds
}

const stateSize = 5 * 8

// StateOf returns the state that stat(2) reports.
func StateOf(st *unix.Stat_t) FileState {
	return FileState{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// Append appends the state to b, in a fixed number of bytes.
func (s FileState) Append(b []byte) []byte {
	for _, n := range []uint64{s.Dev, s.Ino, uint64(s.Size), uint64(s.MTime), uint64(s.CTime)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// Settled reports whether the next change of the file, after it was read at a time, will show in its state. The clocks of
// filesystems tick: two changes in one tick have the same time. Some tick only every second or two; their times have no
// fraction.
func (s FileState) Settled(read time.Time) bool {
	tick := 100 * time.Millisecond
	if s.CTime%int64(time.Second) == 0 {
		tick = 2 * time.Second
	}
	return read.Sub(time.Unix(0, s.CTime)) > tick
}

// AddFile adds the digest of a file whose reading began at a time, if its state was settled then.
func (c *Cache) AddFile(s FileState, d digest.Digest, read time.Time) {
	if s.Settled(read) {
		put(c.files, s.Append(make([]byte, 0, stateSize)), d)
	}
}
