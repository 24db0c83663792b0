package history

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Select returns the steps that a name means: those at a line of the Dockerfile, or with a text in their names; all for "".
func (b *Build) Select(name string) (list []*Step, err error) {
	line, notLine := strconv.Atoi(name)
	for _, s := range b.Steps {
		if name == "" || notLine == nil && s.Line == line || notLine != nil && strings.Contains(strings.ToLower(s.Name), strings.ToLower(name)) {
			list = append(list, s)
		}
	}
	switch {
	case len(list) > 0 || name == "":
		return list, nil
	case notLine == nil:
		return nil, fmt.Errorf("build %s has no step at line %d: its steps are at %s", b.Ref, line, b.lines())
	}
	return nil, fmt.Errorf("build %s has no step %q (mica builds inspect %s lists them)", b.Ref, name, b.Ref)
}

// maxLines is how many lines an error names.
const maxLines = 30

// lines lists the lines of steps.
func (b *Build) lines() string {
	var lines []int
	for _, s := range b.Steps {
		if s.Line > 0 {
			lines = append(lines, s.Line)
		}
	}
	slices.Sort(lines)
	var text []string
	for _, n := range slices.Compact(lines) {
		if len(text) == maxLines {
			text = append(text, "…")
			break
		}
		text = append(text, strconv.Itoa(n))
	}
	if len(text) == 0 {
		return "no line"
	}
	return "lines " + strings.Join(text, ", ")
}

// maxNamed is how many steps an error names.
const maxNamed = 5

// SelectOne is Select for one step. Of the steps of one instruction it returns the last, and of those of several platforms that of the
// build's first.
func (b *Build) SelectOne(name string) (*Step, error) {
	list, err := b.Select(name)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(s *Step) bool { return s.Line == 0 }) // no instruction
	if len(b.Platforms) > 0 {
		first := slices.DeleteFunc(slices.Clone(list), func(s *Step) bool { return s.PlatformOf(b) != b.Platforms[0] })
		if len(first) > 0 {
			list = first
		}
	}
	if name == "" || len(list) == 0 {
		return nil, fmt.Errorf("build %s has no instruction %q (mica builds inspect %s lists its steps)", b.Ref, name, b.Ref)
	}
	if slices.ContainsFunc(list, func(s *Step) bool { return s.Line != list[0].Line }) {
		var names []string
		for _, s := range list[:min(len(list), maxNamed)] {
			names = append(names, fmt.Sprintf("%d (%s)", s.Line, s.Name))
		}
		return nil, fmt.Errorf("%d steps of build %s have %q in their names: use the line of one: %s", len(list), b.Ref, name, strings.Join(names, ", "))
	}
	return list[len(list)-1], nil
}

// PlatformOf returns the platform of a step, which its name begins with in a build of several.
func (s *Step) PlatformOf(b *Build) string {
	for _, p := range b.Platforms {
		if strings.HasPrefix(s.Name, "["+p+" ") {
			return p
		}
	}
	if len(b.Platforms) > 0 {
		return b.Platforms[0]
	}
	return ""
}

// LeastRef is how much of the ref of a build tells it from the name of an image.
const LeastRef = 7

// SplitStep splits BUILD:STEP, the name of a step of a build. ok is false for what can only be the name of an image. relative is set if it
// cannot be one, as "^1:RUN".
func SplitStep(name string) (build, step string, relative, ok bool) {
	build, step, ok = strings.Cut(name, ":")
	relative = build == "" || strings.HasPrefix(build, "^")
	return build, step, relative, ok && (relative || len(build) >= LeastRef && !strings.ContainsAny(build, "/.-_@"))
}
