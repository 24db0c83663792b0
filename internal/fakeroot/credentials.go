package fakeroot

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ids are the user ids, or the group ids, of a process.
type ids struct{ real, effective, saved, fs uint32 }

func sameIDs(id uint32) ids { return ids{id, id, id, id} }

// credentials are what a process pretends to be. They do not change: a process gets others.
type credentials struct {
	identity
	groups []uint32
}

type identity struct {
	uid, gid                                             ids
	permitted, effective, inheritable, ambient, bounding capabilities
	keep                                                 bool // PR_SET_KEEPCAPS
	secure                                               uint32
}

// capabilities are a set of them.
type capabilities uint64

func (s capabilities) has(n uint) bool { return s&(1<<n) != 0 }

func (c *credentials) can(n uint) bool { return c.effective.has(n) }

func (c *credentials) inGroup(gid uint32) bool {
	return c.gid.fs == gid || slices.Contains(c.groups, gid)
}

// plain reports whether files that the process makes belong to root, and whether it can do all to files that root can.
func (c *credentials) plain() bool {
	return c.uid.fs == 0 && c.gid.fs == 0 && c.can(unix.CAP_DAC_OVERRIDE) && c.can(unix.CAP_FOWNER)
}

// credentialsKey is equal for equal credentials.
type credentialsKey struct {
	identity
	groups string
}

func (c *credentials) key() credentialsKey {
	b, _ := binary.Append(nil, binary.LittleEndian, c.groups)
	return credentialsKey{c.identity, string(b)}
}

// registry knows the credentials of processes. The kernel keeps for each process which of them it has, as it keeps no other value that a
// process hands on to those that it starts: as the soft limit of the time that a process of a real-time scheduling policy may run, which
// begins at decades. Processes see no such limit, and do not change it: PAM resets all limits when a user logs in. So nothing is remembered of a process, and nothing is forgotten when its parent ends.
type registry struct {
	mu    sync.RWMutex
	list  []*credentials // the first are those of the step
	room  int            // for groups in list
	index map[credentialsKey]int
	count atomic.Int64
}

// The limits that mean credentials.
const (
	tagLimit       = unix.RLIMIT_RTTIME
	firstTag       = 1 << 60
	maxCredentials = 1 << 16
	maxAllGroups   = 1 << 20 // in all credentials
)

func newRegistry(first *credentials) *registry {
	r := &registry{room: maxAllGroups, list: []*credentials{first}, index: map[credentialsKey]int{first.key(): 0}}
	r.count.Store(1)
	return r
}

// of returns the credentials of a process.
func (r *registry) of(pid int) *credentials {
	var tag uint64
	if r.count.Load() > 1 {
		var l unix.Rlimit
		if err := unix.Prlimit(pid, tagLimit, nil, &l); err == nil && l.Cur >= firstTag {
			tag = l.Cur - firstTag
		}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if tag >= uint64(len(r.list)) {
		tag = 0
	}
	return r.list[tag]
}

// give gives a process credentials.
func (r *registry) give(pid int, c *credentials) error {
	tag, err := r.tag(c)
	if err != nil {
		return err
	}
	var l unix.Rlimit
	if err := unix.Prlimit(pid, tagLimit, nil, &l); err != nil {
		return err
	}
	l.Cur = firstTag + uint64(tag)
	return unix.Prlimit(pid, tagLimit, &l, nil)
}

func (r *registry) tag(c *credentials) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := c.key()
	if tag, ok := r.index[key]; ok {
		return tag, nil
	}
	if len(r.list) >= maxCredentials || len(c.groups) > r.room {
		return 0, unix.EAGAIN
	}
	r.room -= len(c.groups)
	r.list = append(r.list, c)
	r.index[key] = len(r.list) - 1
	r.count.Add(1)
	return len(r.list) - 1, nil
}

// credentials returns those of the process that makes the call.
func (c *call) credentials() *credentials {
	if c.cred == nil {
		c.cred = c.registry.of(c.process())
	}
	return c.cred
}

// become gives the process that makes the call a copy of its credentials with changes.
func (c *call) become(change func(*credentials)) error {
	old := c.credentials()
	now := *old
	now.groups = slices.Clone(old.groups)
	change(&now)
	if now.key() == old.key() {
		return nil
	}
	if !c.waits() {
		return unix.ESRCH
	}
	return c.registry.give(c.process(), &now)
}

// getLimit is getrlimit(2) of the limit that holds the credentials.
func getLimit(c *call) (int64, error) {
	// Two words of the architecture, all of whose bits are set.
	return 0, c.write(c.args[1], bytes.Repeat([]byte{0xff}, 2*c.abi.word))
}

// setLimit is setrlimit(2) of it, which does nothing.
func setLimit(*call) (int64, error) { return 0, nil }

// swapLimit is prlimit(2) of it.
func swapLimit(c *call) (int64, error) {
	if c.args[3] == 0 {
		return 0, nil
	}
	return 0, put(c, c.args[3], unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
}
