package prune

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/cachemount"
)

// Limits are what a prune of the build cache keeps.
type Limits struct {
	All    bool          // remove steps whose layers images have, too
	Age    time.Duration // keep what was used more recently
	Keep   int64         // bytes of steps, and of mounts, to keep of what was used last; 0 for none
	Now    time.Time
	Only   func(id string) bool // remove what it reports alone, by the IDs that docker shows; nil for all
	filter bool                 // a filter was given, even for an age of zero
}

// ParseLimits reads the flags of docker builder prune: filters (until=DURATION or unused-for=DURATION, which add up) and
// --keep-storage.
func ParseLimits(all bool, filters []string, keepStorage string, now time.Time) (Limits, error) {
	l := Limits{All: all, Now: now, filter: len(filters) > 0}
	for _, f := range filters {
		key, value, _ := strings.Cut(f, "=")
		age, err := time.ParseDuration(value)
		if (key != "until" && key != "unused-for") || err != nil {
			return Limits{}, fmt.Errorf("invalid filter %q: use until=DURATION, for example until=24h", f)
		}
		l.Age += age
	}
	if keepStorage != "" {
		var err error
		if l.Keep, err = units.RAMInBytes(keepStorage); err != nil {
			return Limits{}, fmt.Errorf("invalid value %q for --keep-storage: %w", keepStorage, err)
		}
	}
	return l, nil
}

// everything reports whether nothing is to be kept.
func (l Limits) everything() bool { return l.All && !l.filter && l.Keep == 0 && l.Only == nil }

// leaves reports whether something is not asked for.
func (l Limits) leaves(id string) bool { return l.Only != nil && !l.Only(id) }

// keeps reports whether something stays that was last used at a time, while all of its kind take total bytes.
func (l Limits) keeps(used time.Time, total int64) bool {
	return used.After(l.Now.Add(-l.Age)) || l.Keep > 0 && total <= l.Keep
}

// shownID is how many digits of a key docker shows of build cache.
const shownID = 25

// step is the record of a build step.
type step struct {
	key    digest.Digest
	used   time.Time
	layers []digest.Digest
}

func stepsOf(records []*buildcache.Record) []step {
	steps := make([]step, len(records))
	for i, r := range records {
		steps[i] = step{r.Key, r.Used, r.Layers()}
	}
	return steps
}

// pruneSteps removes steps, which come least recently used first, and returns the IDs of those that were removed. remove returns
// false for the key of a step that a build uses.
func pruneSteps(l Limits, steps []step, inImages map[digest.Digest]bool, size func(digest.Digest) int64,
	remove func(key digest.Digest) (bool, error),
) (removed []string, err error) {
	sizes := newSizes(steps, size)
	for _, s := range steps {
		if l.leaves(s.key.Encoded()[:shownID]) || l.keeps(s.used, sizes.total) || !l.All && allIn(s.layers, inImages) {
			continue
		}
		ok, err := remove(s.key)
		if err != nil {
			return removed, err
		}
		if ok {
			sizes.remove(s)
			removed = append(removed, s.key.Encoded()[:shownID])
		}
	}
	return removed, nil
}

// pruneMounts removes cache mounts, which come least recently used first, and returns the IDs of those that were removed, and
// their size. remove returns false for a mount that a step uses.
func pruneMounts(l Limits, mounts []cachemount.Mount, remove func(cachemount.Mount) (bool, error)) (removed []string, freed int64, err error) {
	total := mountsSize(mounts)
	for _, m := range mounts {
		if l.leaves(m.Name[:min(shownID, len(m.Name))]) || l.keeps(m.Used, total) {
			continue
		}
		ok, err := remove(m)
		if err != nil {
			return removed, freed, err
		}
		if ok {
			total, freed = total-m.Size, freed+m.Size
			removed = append(removed, m.Name[:min(shownID, len(m.Name))])
		}
	}
	return removed, freed, nil
}

func mountsSize(mounts []cachemount.Mount) (total int64) {
	for _, m := range mounts {
		total += m.Size
	}
	return total
}

// allIn reports whether images have all layers of a step: removing it would free nothing.
func allIn(layers []digest.Digest, inImages map[digest.Digest]bool) bool {
	for _, id := range layers {
		if !inImages[id] {
			return false
		}
	}
	return true
}

// sizes are those of the layers that steps have, each counted once.
type sizes struct {
	total int64
	size  map[digest.Digest]int64
	refs  map[digest.Digest]int
}

func newSizes(steps []step, size func(digest.Digest) int64) *sizes {
	s := &sizes{size: map[digest.Digest]int64{}, refs: map[digest.Digest]int{}}
	for _, st := range steps {
		for _, id := range st.layers {
			if s.refs[id]++; s.refs[id] == 1 {
				s.size[id] = size(id)
				s.total += s.size[id]
			}
		}
	}
	return s
}

// remove subtracts what only this step has of those that are left.
func (s *sizes) remove(gone step) {
	for _, id := range gone.layers {
		if s.refs[id]--; s.refs[id] == 0 {
			s.total -= s.size[id]
		}
	}
}
