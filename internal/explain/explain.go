// Package explain finds out why a step of a build ran: it compares the ingredients of the step's key with those of the step that
// stood in its place in an earlier build.
package explain

import (
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
)

// maxEarlier is how many builds are searched for a step like one that ran.
const maxEarlier = 16

// Explainer explains the steps of one build, while it runs or later. It is not safe for concurrent use.
type Explainer struct {
	builds *history.Builds
	now    *history.Build
	// Lock, if it is set, is held by the callers. It is released while lists of files are read and compared.
	Lock sync.Locker

	loaded  bool
	earlier []*comparison
	causes  map[digest.Digest][]history.Cause
}

// New explains the steps of a build by the earlier builds of its line.
func New(builds *history.Builds, now *history.Build) *Explainer {
	return &Explainer{builds: builds, now: now, causes: map[digest.Digest][]history.Cause{}}
}

// Against explains the steps of a build by one other build.
func Against(builds *history.Builds, now, old *history.Build) *Explainer {
	e := New(builds, now)
	e.loaded = true
	e.earlier = []*comparison{{e: e, now: now, old: old}}
	return e
}

// Remote explains the steps of a build by the build that exported a cache.
func Remote(builds *history.Builds, now *history.Build, x *Excerpt) *Explainer {
	e := New(builds, now)
	e.loaded = true
	e.earlier = []*comparison{{e: e, now: now, old: &x.Build, excerpt: x}}
	return e
}

// Announced tells the explainer that the build has more steps.
func (e *Explainer) Announced() {
	for _, c := range e.earlier {
		c.pairs = nil
	}
}

// Why returns the causes of a step that runs; none if no earlier build had one like it. missed is why the cache does not have a step
// that had the same key then: NoCache, Gone or Pruned.
func (e *Explainer) Why(s *history.Step, missed history.Kind) []history.Cause {
	if missed == history.NoCache {
		return []history.Cause{{Kind: missed}}
	}
	causes := e.Differences(s)
	if len(causes) > 0 {
		if ref := e.had(s); ref != "" && missed != "" {
			return []history.Cause{{Kind: missed, Name: ref}}
		}
		return causes
	}
	c, old := e.like(s)
	if c == nil || old.Key != s.Key || s.Key == "" {
		return nil
	}
	switch old.State {
	case history.StepFailed:
		missed = history.Failure
	case history.StepCanceled:
		missed = history.Stopped
	}
	return []history.Cause{{Kind: missed}}
}

// had returns the earlier build, other than the one that a step is compared with, that had the step with the same key: its result was
// in the cache, whatever was built since then. "" if there is none.
func (e *Explainer) had(s *history.Step) string {
	if s.Key == "" {
		return ""
	}
	for _, c := range e.earlier {
		if old := c.like(s); old != nil && old.Key == s.Key && (old.State == history.StepRan || old.State == history.StepCached) {
			return c.old.Ref
		}
	}
	return ""
}

// Differences returns what distinguishes a step, run or cached, from the one like it in an earlier build.
func (e *Explainer) Differences(s *history.Step) []history.Cause {
	if list, ok := e.causes[s.Vertex]; ok {
		return list
	}
	c, old := e.like(s)
	if c == nil {
		return nil
	}
	list := c.excerpt.hide(c.differences(s, old))
	e.causes[s.Vertex] = list
	return list
}

// like returns the step in the place of s in the latest earlier build, or in one before if that step was not reached there; nil if no
// build had one.
func (e *Explainer) like(s *history.Step) (*comparison, *history.Step) {
	if !e.loaded {
		e.loaded = true
		e.load()
	}
	var without *history.Step // a step whose key is not known: a remote cache had its result
	var of *comparison
	for _, c := range e.earlier {
		old := c.like(s)
		if old != nil && old.State != "" && (old.Key != "" || s.Key == "") {
			return c, old
		}
		if without == nil && old != nil && old.State == history.StepCached {
			of, without = c, old
		}
		if c.old.Status == history.Completed {
			break // it had all steps of the Dockerfile of then
		}
	}
	return of, without
}

// load reads the earlier builds: first those of the same arguments and platforms, since a line is also built in variants.
func (e *Explainer) load() {
	var others []*comparison
	n := 0
	for old := range e.builds.Earlier(e.now.Line) {
		if old.Ref == e.now.Ref || !old.Started.Before(e.now.Started) {
			continue
		}
		c := &comparison{e: e, now: e.now, old: old}
		if maps.Equal(old.Args, e.now.Args) && slices.Equal(old.Platforms, e.now.Platforms) {
			e.earlier = append(e.earlier, c)
		} else {
			others = append(others, c)
		}
		if n++; n == maxEarlier {
			break
		}
	}
	if len(e.earlier) == 0 {
		e.earlier = others
	}
}

// Roots follows the causes of a step to the steps that they come from, and returns those that do not come from another step.
func (e *Explainer) Roots(s *history.Step) []history.Cause {
	return follow(e.now, s, func(s *history.Step) []history.Cause { return s.Causes })
}

// RemoteRoots is Roots for why a remote cache did not have the result of a step of a build.
func RemoteRoots(b *history.Build, s *history.Step, cache string) []history.Cause {
	return follow(b, s, func(s *history.Step) []history.Cause {
		for _, m := range s.Misses {
			if m.Cache == cache {
				return m.Causes
			}
		}
		return nil
	})
}

func follow(b *history.Build, s *history.Step, causes func(*history.Step) []history.Cause) (roots []history.Cause) {
	seen := map[digest.Digest]bool{}
	var visit func(s *history.Step)
	visit = func(s *history.Step) {
		if seen[s.Vertex] {
			return
		}
		seen[s.Vertex] = true
		for _, c := range causes(s) {
			from := b.Step(c.Step)
			if c.Step == "" || from == nil || len(causes(from)) == 0 {
				if !slices.Contains(roots, c) {
					roots = append(roots, c)
				}
				continue
			}
			visit(from)
		}
	}
	visit(s)
	return roots
}
