package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
)

// filter decides what of a host directory is seen, as fsutil's FilterFS does for BuildKit: a file is seen when it
// matches an include pattern (or there is none) and no exclude pattern; a directory that does not match itself is seen
// when something in it is.
type filter struct {
	include, exclude *patternmatcher.PatternMatcher
	// plain says that patterns (but for a trailing /**) are paths: then directories that no pattern leads into are skipped.
	plainIncludes, plainExceptions bool
}

// verdict is what the filter says of one path, and what its children need to know of it.
type verdict struct {
	seen    bool // the path itself is wanted
	descend bool // a directory: something below may be wanted
	include patternmatcher.MatchInfo
	exclude patternmatcher.MatchInfo
}

func newFilter(include, exclude []string) (*filter, error) {
	f := &filter{plainIncludes: true, plainExceptions: true}
	var err error
	if len(include) > 0 {
		if f.include, err = patternmatcher.New(include); err != nil {
			return nil, fmt.Errorf("invalid include patterns %q: %w", include, err)
		}
		f.plainIncludes = !slices.ContainsFunc(f.include.Patterns(), func(p *patternmatcher.Pattern) bool {
			return !p.Exclusion() && !isPlain(p)
		})
	}
	if len(exclude) > 0 {
		if f.exclude, err = patternmatcher.New(exclude); err != nil {
			return nil, fmt.Errorf("invalid ignore patterns %q: %w", exclude, err)
		}
		f.plainExceptions = !slices.ContainsFunc(f.exclude.Patterns(), func(p *patternmatcher.Pattern) bool {
			return p.Exclusion() && !isPlain(p)
		})
	}
	return f, nil
}

func withoutGlob(p *patternmatcher.Pattern) string { return strings.TrimSuffix(p.String(), "/**") }

func isPlain(p *patternmatcher.Pattern) bool { return !strings.ContainsAny(withoutGlob(p), `*[]?^\`) }

// leadsInto reports whether a pattern may match something below dir.
func leadsInto(m *patternmatcher.PatternMatcher, dir string, exceptions bool) bool {
	for _, p := range m.Patterns() {
		if p.Exclusion() == exceptions && strings.HasPrefix(withoutGlob(p)+"/", dir+"/") {
			return true
		}
	}
	return false
}

// judge applies the filter to a path whose parent got the verdict up.
func (f *filter) judge(name string, dir bool, up *verdict) (*verdict, error) {
	v := &verdict{seen: true, descend: true}
	var err error
	if f.include != nil {
		v.seen, v.include, err = f.include.MatchesUsingParentResults(name, up.include)
		if err != nil {
			return nil, fmt.Errorf("match include patterns: %w", err)
		}
		if !v.seen && dir && f.plainIncludes && !leadsInto(f.include, name, false) {
			v.descend = false
			return v, nil
		}
	}
	if f.exclude != nil {
		var out bool
		out, v.exclude, err = f.exclude.MatchesUsingParentResults(name, up.exclude)
		if err != nil {
			return nil, fmt.Errorf("match ignore patterns: %w", err)
		}
		if out {
			v.seen = false
			if dir && f.plainExceptions && (!f.exclude.Exclusions() || !leadsInto(f.exclude, name, true)) {
				v.descend = false
			}
		}
	}
	return v, nil
}
