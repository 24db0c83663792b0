package fakeroot

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// keep is the argument of calls for an id that does not change.
const keep = ^uint32(0)

// idKind is either kind of ids.
type idKind struct {
	of         func(*credentials) *ids
	capability uint
}

var (
	users  = idKind{func(c *credentials) *ids { return &c.uid }, unix.CAP_SETUID}
	groups = idKind{func(c *credentials) *ids { return &c.gid }, unix.CAP_SETGID}
)

func (k idKind) real(c *call) (int64, error) { return int64(k.of(c.credentials()).real), nil }

func (k idKind) effective(c *call) (int64, error) { return int64(k.of(c.credentials()).effective), nil }

// getAll is getresuid(2).
func (k idKind) getAll(c *call) (int64, error) {
	v := k.of(c.credentials())
	for i, id := range []uint32{v.real, v.effective, v.saved} {
		if err := put(c, c.args[i], id); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// set is setuid(2).
func (k idKind) set(c *call) (int64, error) {
	id := c.arg(0)
	v := *k.of(c.credentials())
	switch {
	case id == keep:
		return 0, unix.EINVAL
	case c.credentials().can(k.capability):
		v = sameIDs(id)
	case id == v.real || id == v.saved:
		v.effective, v.fs = id, id
	default:
		return 0, unix.EPERM
	}
	return 0, k.assign(c, v)
}

// setTwo is setreuid(2).
func (k idKind) setTwo(c *call) (int64, error) {
	r, e := c.arg(0), c.arg(1)
	v := *k.of(c.credentials())
	old, can := v, c.credentials().can(k.capability)
	if r != keep {
		if !can && r != old.real && r != old.effective {
			return 0, unix.EPERM
		}
		v.real = r
	}
	if e != keep {
		if !can && e != old.real && e != old.effective && e != old.saved {
			return 0, unix.EPERM
		}
		v.effective = e
	}
	if r != keep || e != keep && e != old.real {
		v.saved = v.effective
	}
	v.fs = v.effective
	return 0, k.assign(c, v)
}

// setAll is setresuid(2).
func (k idKind) setAll(c *call) (int64, error) {
	v := *k.of(c.credentials())
	old, can := v, c.credentials().can(k.capability)
	for i, to := range []*uint32{&v.real, &v.effective, &v.saved} {
		id := c.arg(i)
		if id == keep {
			continue
		}
		if !can && id != old.real && id != old.effective && id != old.saved {
			return 0, unix.EPERM
		}
		*to = id
	}
	v.fs = v.effective
	return 0, k.assign(c, v)
}

// setFS is setfsuid(2), which has no errors.
func (k idKind) setFS(c *call) (int64, error) {
	id := c.arg(0)
	v := *k.of(c.credentials())
	old := v.fs
	if id != keep && (c.credentials().can(k.capability) || slices.Contains([]uint32{v.real, v.effective, v.saved, v.fs}, id)) {
		v.fs = id
		if err := k.assign(c, v); err != nil {
			return int64(old), nil //nolint:nilerr // as the kernel
		}
	}
	return int64(old), nil
}

func (k idKind) assign(c *call, v ids) error {
	return c.become(func(now *credentials) {
		old := now.uid
		*k.of(now) = v
		now.followUID(old)
	})
}

// followUID changes capabilities as the kernel does when user ids change (capabilities(7)).
func (c *credentials) followUID(old ids) {
	if c.secure&secureNoSetuidFixup != 0 {
		return
	}
	had := old.real == 0 || old.effective == 0 || old.saved == 0
	has := c.uid.real == 0 || c.uid.effective == 0 || c.uid.saved == 0
	if had && !has {
		if !c.keep {
			c.permitted, c.effective = 0, 0
		}
		c.ambient = 0
	}
	switch {
	case old.effective == 0 && c.uid.effective != 0:
		c.effective = 0
	case old.effective != 0 && c.uid.effective == 0:
		c.effective = c.permitted
	}
	switch {
	case old.fs == 0 && c.uid.fs != 0:
		c.effective &^= fileCapabilities
	case old.fs != 0 && c.uid.fs == 0:
		c.effective |= c.permitted & fileCapabilities
	}
}

// maxGroups is NGROUPS_MAX.
const maxGroups = 1 << 16

func getGroups(c *call) (int64, error) {
	list := c.credentials().groups
	n := int(int32(c.arg(0)))
	switch {
	case n < 0, n != 0 && n < len(list):
		return 0, unix.EINVAL
	case n == 0 || len(list) == 0:
		return int64(len(list)), nil
	}
	b, _ := binary.Append(nil, binary.NativeEndian, list)
	return int64(len(list)), c.write(c.args[1], b)
}

func setGroups(c *call) (int64, error) {
	n := c.arg(0)
	if !c.credentials().can(unix.CAP_SETGID) {
		return 0, unix.EPERM
	}
	if n > maxGroups {
		return 0, unix.EINVAL
	}
	b := make([]byte, 4*n)
	if err := c.read(b, c.args[1]); err != nil {
		return 0, err
	}
	list := make([]uint32, n)
	for i := range list {
		list[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return 0, c.become(func(now *credentials) { now.groups = list })
}
