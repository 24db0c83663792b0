// Package userns lets an ordinary user do what root does, inside a user namespace.
package userns

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// marker is set in the environment of a process that Enter has started, to the user's own uid.
const marker = "_MICA_USERNS_UID"

// Inside reports whether this process is root of a user namespace that mica, or somebody before it, made.
func Inside() bool { return inside() }

var inside = sync.OnceValue(func() bool {
	ranges, err := readMap("/proc/self/uid_map")
	return err == nil && !(len(ranges) == 1 && ranges[0] == idRange{0, 0, 4294967295})
})

// IsRealRoot reports whether the user who started mica is root of the host.
func IsRealRoot() bool { return os.Geteuid() == 0 && os.Getenv(marker) == "" }

// SingleID reports whether only one user id is mapped: files then all belong to one user.
func SingleID() bool {
	if !Inside() {
		return false
	}
	ranges, err := readMap("/proc/self/uid_map")
	return err == nil && len(ranges) == 1 && ranges[0].size == 1
}

// Mapped reports whether a group id exists in this user namespace.
func Mapped(gid int) bool {
	ranges, err := readMap("/proc/self/gid_map")
	if err != nil {
		return true
	}
	for _, r := range ranges {
		if gid >= r.inner && gid < r.inner+r.size {
			return true
		}
	}
	return false
}

// idRange is a line of /proc/self/uid_map: size ids from inner on are those from outer on outside.
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
