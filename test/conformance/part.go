package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// A part is what make test runs of the suites: by suite, the names of tests.
type part map[string][]string

// readPart reads lines "SUITE TEST". Empty lines and those with # at their beginning are for people.
func readPart(path string) (part, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := part{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return nil, fmt.Errorf("%s: not SUITE TEST: %q", path, line)
		}
		name, test := fields[0], fields[1]
		if !slices.ContainsFunc(suites, func(s suite) bool { return s.name == name }) {
			return nil, fmt.Errorf("%s: %s: no such suite", path, name)
		}
		if slices.Contains(p[name], test) {
			return nil, fmt.Errorf("%s: %s %s is there twice", path, name, test)
		}
		p[name] = append(p[name], test)
	}
	return p, nil
}

// pattern matches the tests of a suite, for -run.
func (p part) pattern(suite string) string {
	quoted := make([]string, len(p[suite]))
	for n, test := range p[suite] {
		quoted[n] = regexp.QuoteMeta(test)
	}
	return "^(" + strings.Join(quoted, "|") + ")(#[0-9]+)?$"
}

// missing returns the tests of a suite that did not run: another version of BuildKit may have renamed them, or the machine lacks what they
// need.
func (p part) missing(suite string, results *results) []string {
	ran := map[string]bool{}
	for name, result := range results.outcome {
		_, test, _ := strings.Cut(name, "/")
		test, _, _ = strings.Cut(test, "/")
		test, _, _ = strings.Cut(test, "#")
		ran[test] = ran[test] || result != skipped
	}
	return slices.DeleteFunc(slices.Clone(p[suite]), func(test string) bool { return ran[test] })
}
