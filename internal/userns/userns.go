// Package userns makes an ordinary user root in a user namespace.
package userns

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// marker is an environment variable of the inner process of Enter: the uid of the user.
const marker = "_MICA_USERNS_UID"

// IsRealRoot reports whether the user who started mica is root of the host. Root in a container, without CAP_SYS_ADMIN, is not.
func IsRealRoot() bool {
	return os.Geteuid() == 0 && os.Getenv(marker) == "" && Has(unix.CAP_SYS_ADMIN)
}

// IsNamedRoot reports whether the user who started mica has the uid 0, whatever root may do there.
func IsNamedRoot() bool {
	uid, entered := os.LookupEnv(marker)
	return uid == "0" || !entered && os.Geteuid() == 0
}

// IDs are the user and group ids of a user namespace.
type IDs struct{ users, groups []idRange }

// whole is the map of the initial user namespace.
var whole = idRange{0, 0, 4294967295}

// Current returns the ids of this process's user namespace. It reads /proc/self: a thread in another pid namespace cannot call
// it.
func Current() IDs {
	users, err := readMap("/proc/self/uid_map")
	if err != nil {
		// Without /proc assume the initial namespace.
		users = []idRange{whole}
	}
	groups, err := readMap("/proc/self/gid_map")
	if err != nil {
		groups = []idRange{whole}
	}
	return IDs{users, groups}
}

// Nested reports whether this is not the initial user namespace: root is then not root of the host.
func (i IDs) Nested() bool { return len(i.users) != 1 || i.users[0] != whole }

// Single reports whether only one user id is mapped: all files then belong to one user.
func (i IDs) Single() bool { return len(i.users) == 1 && i.users[0].size == 1 }

// HasGroup reports whether a group id is in the namespace.
func (i IDs) HasGroup(gid int) bool {
	for _, r := range i.groups {
		if gid >= r.inner && gid < r.inner+r.size {
			return true
		}
	}
	return false
}

// LastGroup returns the highest group id up to which all ids are in the namespace.
func (i IDs) LastGroup() uint32 {
	next := 0
	for range i.groups {
		for _, r := range i.groups {
			if r.inner <= next && next < r.inner+r.size {
				next = r.inner + r.size
			}
		}
	}
	return uint32(max(next-1, 0))
}

// idRange is a line of /proc/self/uid_map: it maps size ids from inner on to ids from outer on in the parent namespace.
type idRange struct{ inner, outer, size int }

func readMap(path string) ([]idRange, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var ranges []idRange
	for line := range strings.Lines(string(data)) {
		var r idRange
		if _, err := fmt.Sscan(line, &r.inner, &r.outer, &r.size); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}
