//go:build e2e

package remotecache

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"golang.org/x/tools/txtar"
)

// shapes are the names of cases, in order: those that have a kind of step, or one on another, that no case before them
// has, and one of every group.
func shapes(cases map[string]*txtar.Archive) (names []string) {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		known := len(seen)
		seen["group "+path.Dir(name)] = true
		below := ""
		for _, s := range shape(cases[name]) {
			seen[below+"\n"+s] = true
			below = s
		}
		if len(seen) > known {
			names = append(names, name)
		}
	}
	return names
}

// shape is what of a Dockerfile makes the graph of its build: kinds of steps, and of places that they take files from. What
// commands do, and how stages and files are called, is left out.
func shape(a *txtar.Archive) (steps []string) {
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "Dockerfile" })
	if i < 0 {
		return nil
	}
	got, err := parser.Parse(bytes.NewReader(a.Files[i].Data))
	if err != nil {
		return nil
	}
	stages := map[string]bool{}
	for _, n := range got.AST.Children {
		if s := stepShape(n, stages); s != "" {
			steps = append(steps, s)
		}
	}
	return steps
}

// stepShape is the kind of step that an instruction makes, "" for one that makes no step. It adds to the names of stages.
func stepShape(n *parser.Node, stages map[string]bool) string {
	line := []string{strings.ToUpper(n.Value)}
	for _, f := range n.Flags {
		line = append(line, flagShape(f, stages))
	}
	var words []string
	for w := n.Next; w != nil; w = w.Next {
		words = append(words, w.Value)
	}
	switch {
	case len(words) == 0:
	case line[0] == "FROM":
		line = append(line, fmt.Sprint(stages[words[0]], words[0] == "scratch"))
		if len(words) == 3 {
			stages[words[2]] = true
		}
	case line[0] == "COPY" || line[0] == "ADD":
		sources := map[string]bool{}
		for _, w := range words[:len(words)-1] {
			sources[fmt.Sprint(strings.ContainsAny(w, "*?["), strings.Contains(w, "://"), path.Clean("/"+w) == "/", strings.Contains(w, ".tar"))] = true
		}
		line = append(line, fmt.Sprint(slices.Sorted(maps.Keys(sources)), len(words) > 2, len(n.Heredocs) > 0))
	case line[0] != "RUN" && line[0] != "WORKDIR":
		return ""
	}
	return strings.Join(line, " ")
}

// flagShape is a flag without paths, and with what kind of stage or image it names.
func flagShape(f string, stages map[string]bool) string {
	name, value, _ := strings.Cut(f, "=")
	line := []string{name}
	for o := range strings.SplitSeq(value, ",") {
		switch k, v, ok := strings.Cut(o, "="); {
		case !ok:
			line = append(line, fmt.Sprint(stages[k]))
		case k == "type" || k == "sharing":
			line = append(line, o)
		default:
			line = append(line, k, fmt.Sprint(stages[v]))
		}
	}
	return strings.Join(line, " ")
}
