package imagediff

import (
	"fmt"
	"strings"

	"github.com/moby/patternmatcher"
)

// matcher matches paths of files with patterns.
type matcher interface{ match(path string) bool }

type noMatcher struct{}

func (noMatcher) match(string) bool { return false }

type patterns struct{ *patternmatcher.PatternMatcher }

func (p patterns) match(path string) bool {
	ok, err := p.MatchesOrParentMatches(path)
	return err == nil && ok
}

// newMatcher makes a matcher of patterns as in .dockerignore. A pattern without a slash is for a name in any directory.
func newMatcher(list []string) (matcher, error) {
	if len(list) == 0 {
		return noMatcher{}, nil
	}
	var all []string
	for _, p := range list {
		if p == "" {
			return nil, fmt.Errorf("invalid pattern %q: it is empty", p)
		}
		if !strings.Contains(p, "/") {
			p = "**/" + p
		}
		all = append(all, strings.TrimPrefix(p, "/"))
	}
	m, err := patternmatcher.New(all)
	if err == nil {
		_, err = m.MatchesOrParentMatches("x")
	}
	if err != nil {
		return nil, fmt.Errorf("invalid pattern in %q: %w", list, err)
	}
	return patterns{m}, nil
}
