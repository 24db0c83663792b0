package remotecache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/patternmatcher"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// matching returns the digest of a selection with wildcards or filters: of the list of the files that match, with only the
// headers of directories (cache/contenthash/checksum.go, Checksum).
func (c *checksums) matching(ctx context.Context, s selection) (digest.Digest, error) {
	m, err := newMatcher(c, s)
	if err != nil {
		return "", err
	}
	if err := m.run(ctx); err != nil {
		return "", err
	}
	for _, f := range m.found {
		if f.follow && f.entry.Type == view.TypeSymlink {
			if f.digest, err = c.path(ctx, f.name, s.follow); err != nil {
				return "", err
			}
		}
	}
	switch {
	case len(m.found) == 0:
		return digest.FromBytes(nil), nil
	case len(m.found) == 1 && path.Base(m.pattern) == path.Base(m.found[0].name):
		return m.found[0].digest, nil
	}
	h := sha256.New()
	for _, f := range m.found {
		key := strings.ReplaceAll(strings.TrimPrefix(f.name, m.base), "/", "\x00")
		if key == "" {
			key = "\x00"
		}
		_, _ = io.WriteString(h, key+f.digest.String())
	}
	return digest.NewDigest(digest.SHA256, h), nil
}

// matcher walks the files of a selection (includedPaths). Names begin with a slash. The root's name is "".
type matcher struct {
	c                *checksums
	s                selection
	pattern          string // the selected path or pattern
	base             string // the part of pattern before wildcards, as written
	real             string // base with symlinks resolved
	include, exclude *patternmatcher.PatternMatcher
	parents          []*match // directories above the current file
	matched          string   // the last match of the pattern; everything below it is selected
	found            []*match
}

// match is a file of the walk.
type match struct {
	name             string
	entry            *view.Entry
	digest           digest.Digest
	included, follow bool
	include, exclude patternmatcher.MatchInfo
}

func newMatcher(c *checksums, s selection) (*matcher, error) {
	m := &matcher{c: c, s: s, pattern: strings.TrimSuffix(s.path, "/")}
	var err error
	if len(s.include) > 0 {
		if m.include, err = patternmatcher.New(s.include); err != nil {
			return nil, fmt.Errorf("invalid include patterns %q: %w", s.include, err)
		}
	}
	if len(s.exclude) > 0 {
		if m.exclude, err = patternmatcher.New(s.exclude); err != nil {
			return nil, fmt.Errorf("invalid exclude patterns %q: %w", s.exclude, err)
		}
	}
	return m, nil
}

func (m *matcher) run(ctx context.Context) error {
	// Symlinks in parent directories are followed. The last name is a parent directory only if a wildcard follows it.
	last := false
	m.base = m.pattern
	if m.s.wildcard {
		base, rest := splitWildcards(m.pattern)
		m.base, last = strings.TrimSuffix(base, "/"), rest != ""
	}
	name, err := view.Resolve(ctx, m.c.view, m.base, last)
	if err != nil {
		return err
	}
	m.real = strings.TrimSuffix("/"+name, "/.")
	e, err := m.c.view.Lstat(ctx, name)
	if err == nil {
		err = m.visit(ctx, e)
	} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		err = nil
	}
	if err != nil {
		return err
	}
	for _, p := range m.s.required {
		if !slices.ContainsFunc(m.found, func(f *match) bool { return strings.HasPrefix(f.name, p) }) {
			return &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
		}
	}
	return nil
}

// visit selects a file, and then those below it.
func (m *matcher) visit(ctx context.Context, e *view.Entry) error {
	name := m.base + strings.TrimPrefix(strings.TrimSuffix("/"+e.Path, "/."), m.real)
	if err := m.check(ctx, name, e); err != nil || !e.IsDir() {
		return err
	}
	kids, err := m.c.view.ReadDir(ctx, e.Path)
	if err != nil {
		return err
	}
	for _, kid := range kids {
		if err := m.visit(ctx, kid); err != nil {
			return err
		}
	}
	return nil
}

// check adds a file to found if it is selected. A directory counts by its header, and is selected with the first selected
// file below it.
func (m *matcher) check(ctx context.Context, name string, e *view.Entry) error {
	for len(m.parents) > 0 && !strings.HasPrefix(name, m.parents[len(m.parents)-1].name+"/") {
		m.parents = m.parents[:len(m.parents)-1]
	}
	if e.IsDir() && name == m.pattern && strings.HasSuffix(m.s.path, "/") {
		return nil // a source that ends in a slash is the content of the directory
	}
	f := &match{name: name, entry: e, follow: len(m.parents) == 0 && m.s.follow}
	candidate, ok, err := m.candidate(name)
	if err != nil || !ok {
		return err
	}
	selected, err := m.selects(f, candidate)
	if err != nil || (!selected && !e.IsDir()) {
		return err
	}
	if f.digest, err = m.c.file(ctx, e); err != nil {
		return err
	}
	if selected {
		for _, p := range append(slices.Clone(m.parents), f) {
			if !p.included {
				p.included = true
				m.found = append(m.found, p)
			}
		}
	}
	if e.IsDir() {
		m.parents = append(m.parents, f)
	}
	return nil
}

// candidate returns the name that filters are applied to: relative to the match of the pattern, or to the path.
func (m *matcher) candidate(name string) (string, bool, error) {
	root := m.pattern
	if m.s.wildcard {
		if m.pattern != "" && (m.matched == "" || !strings.HasPrefix(name, m.matched+"/")) {
			ok, err := path.Match(m.pattern, name)
			if err != nil || !ok {
				return "", false, err
			}
			m.matched = name
		}
		root = m.matched
	}
	return strings.TrimSuffix(strings.TrimPrefix(name+"/", root+"/"), "/"), true, nil
}

// selects applies the filters (shouldIncludePath).
func (m *matcher) selects(f *match, candidate string) (ok bool, err error) {
	var up match
	if len(m.parents) > 0 {
		up = *m.parents[len(m.parents)-1]
	}
	if m.include != nil {
		ok, f.include, err = m.include.MatchesUsingParentResults(candidate, up.include)
		if err != nil || !ok {
			return false, err
		}
	}
	if m.exclude != nil {
		ok, f.exclude, err = m.exclude.MatchesUsingParentResults(candidate, up.exclude)
		if err != nil || ok {
			return false, err
		}
	}
	return true, nil
}
