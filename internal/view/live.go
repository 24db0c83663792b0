package view

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/digestcache"
)

// A file that is appended to while a build runs, a log, need not end the build: it is copied as long as it was when its directory
// was read. That it was only appended to is known if its digest was taken then. So files that have changed a moment
// before are digested at once.

// Files count as changing for changingTime after a change. If more than maxLive files are changing, they have just been made, and are
// not logs. Their size does not matter: what is found in a directory is part of a key, and is digested sooner or later.
const (
	changingTime = 2 * time.Second
	maxLive      = 64
)

// changing reports whether a file has changed so lately that it may be about to change again.
func changing(s digestcache.FileState, now time.Time) bool {
	return now.Sub(time.Unix(0, s.MTime)) < changingTime
}

// digestLive takes the digests of files that are changing.
func (c *hostContent) digestLive(x *Index, found []hostFile) {
	now := time.Now()
	var live []*Entry
	for _, f := range found {
		if f.seen && f.entry.Type == TypeRegular && changing(f.key, now) {
			live = append(live, f.entry)
		}
	}
	if len(live) > maxLive {
		return
	}
	digests := make(map[int]digest.Digest, len(live))
	for _, e := range live {
		n, err := x.regular("read", e.Path)
		if err != nil {
			continue
		}
		// One that has become anything but longer is not known: it may end the build, as any other.
		if d, err := c.digest(e, n.tag, true); err == nil {
			digests[n.tag] = d
		}
	}
	c.live = digests
}
