package imagediff

import (
	"cmp"
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
	ok, err := p.MatchesOrParentMatches(withoutNewlines(path))
	return err == nil && ok
}

// withoutNewlines replaces newlines by a character that is none (Unicode, 23.7): the wildcards of package patternmatcher do not match newlines.
func withoutNewlines(text string) string { return strings.ReplaceAll(text, "\n", "\uffff") }

// newMatcher makes a matcher of patterns as in .dockerignore: one that begins with an exclamation mark is an exception to those before it.
// A pattern without a slash is for a name in any directory.
func newMatcher(list []string) (matcher, error) {
	if len(list) == 0 {
		return noMatcher{}, nil
	}
	var all []string
	for _, p := range list {
		p, exception := strings.CutPrefix(p, "!")
		if strings.TrimSpace(p) == "" {
			return nil, fmt.Errorf("invalid pattern in %q: it is empty", list)
		}
		p = anchored(withoutNewlines(p))
		if exception {
			p = "!" + p
		}
		all = append(all, p)
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

// anchored is a pattern for paths that do not begin with a slash.
func anchored(p string) string {
	if !strings.Contains(p, "/") {
		return "**/" + p
	}
	return cmp.Or(strings.TrimLeft(p, "/"), "**")
}
