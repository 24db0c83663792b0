//go:build e2e

// Package why changes one thing of a build, or two, in some hundred ways, and checks that the cause which mica names for the steps
// that run again is that change, and no other.
package why

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRootEveryCauseIsNamed: for each change alone, and for pairs of changes of different topics.
func TestRootEveryCauseIsNamed(t *testing.T) {
	lanes := make(chan *lane, runtime.GOMAXPROCS(0))
	for range cap(lanes) {
		l := newLane(t)
		newProject(t, l, 0).build()
		lanes <- l
	}
	site := newSite(t)
	all := changes()
	var number atomic.Int64
	check := func(t *testing.T, planned bool, list ...change) {
		t.Helper()
		t.Parallel()
		l := <-lanes
		defer func() { lanes <- l }()
		n := int(number.Add(1))
		before, p := newProject(t, l, 0), newProject(t, l, n)
		before.site, p.site, p.planned = site.part(n), site.part(n), planned
		before.key, p.key = fmt.Sprint("key", n), fmt.Sprint("key", n)
		var want []string
		for _, c := range list {
			if c.setup != nil {
				c.setup(before)
				c.setup(p)
			}
			c.make(p)
			for _, w := range c.want {
				want = append(want, strings.NewReplacer("{}", p.unique(), "{site}", p.site.url).Replace(w))
			}
		}
		before.build()
		got := p.build()
		slices.Sort(want)
		for i, g := range got { // an instruction that changed is named by its step
			if strings.HasPrefix(g, "command ") && !slices.Contains(want, g) {
				got[i] = "command"
			}
		}
		slices.Sort(got)
		if got, want = slices.Compact(got), slices.Compact(want); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q\n%s", got, want, p.m.Run("why"))
		}
	}
	for i, c := range all {
		t.Run(c.name, func(t *testing.T) { check(t, i%2 == 0, c) })
	}
	var simple []change
	for _, c := range all {
		if slices.Contains(combined, c.name) {
			simple = append(simple, c)
		}
	}
	if len(simple) != len(combined) {
		t.Fatalf("%d of %d changes are known", len(simple), len(combined))
	}
	for i, a := range simple {
		for _, b := range simple[i+1:] {
			t.Run(a.name+" and "+b.name, func(t *testing.T) { check(t, false, a, b) })
		}
	}
}
