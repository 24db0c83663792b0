package view

import (
	"context"
	"path"
	"strings"
)

// hasWildcard reports whether path.Match would treat name as a pattern.
func hasWildcard(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// BeforeWildcard is the path that a pattern begins with, up to the first component with a wildcard.
func BeforeWildcard(pattern string) string {
	parts := strings.Split(Clean(pattern), "/")
	return path.Join(parts[:literals(parts)]...)
}

// literals counts the components before the first one with a wildcard.
func literals(parts []string) int {
	n := 0
	for n < len(parts) && !hasWildcard(parts[n]) {
		n++
	}
	return n
}

// glob resolves the wildcards of a pattern, in the order of a walk. What precedes the first component with a wildcard is
// a path, whose symlinks are followed if follow is set; a directory that matches is not searched further (fsutil's
// ResolveWildcards).
func glob(ctx context.Context, v View, pattern string, follow bool) ([]string, error) {
	parts := strings.Split(Clean(pattern), "/")
	n := literals(parts)
	if n == len(parts) {
		return []string{Clean(pattern)}, nil
	}
	base, err := Resolve(ctx, v, strings.Join(parts[:n], "/"), follow)
	if err != nil {
		return nil, err
	}
	g := &globber{ctx: ctx, view: v, pattern: strings.Join(parts[n:], "/")}
	if err := g.walk(base, ""); err != nil {
		return nil, err
	}
	return g.matches, nil
}

type globber struct {
	ctx     context.Context
	view    View
	pattern string
	matches []string
}

func (g *globber) walk(dir, rel string) error {
	entries, err := g.view.ReadDir(g.ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		sub := path.Join(rel, path.Base(e.Path))
		if ok, _ := path.Match(g.pattern, sub); ok {
			g.matches = append(g.matches, e.Path)
			continue
		}
		if e.IsDir() && strings.Count(sub, "/") < strings.Count(g.pattern, "/") {
			if err := g.walk(e.Path, sub); err != nil {
				return err
			}
		}
	}
	return nil
}
