package main

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Known are the tests that do not pass, with the reason. The keys are "SUITE NAME", where the suite may be without its front end.
type known struct {
	// mica fails them, and buildkitd passes.
	mica map[string]string
	// buildkitd fails them here, for want of the internet or of a program; mica may pass or not.
	buildkitd map[string]string
}

func readKnown(mica, buildkitd string) (*known, error) {
	var k known
	var err error
	if k.mica, err = readList(mica); err != nil {
		return nil, err
	}
	if k.buildkitd, err = readList(buildkitd); err != nil {
		return nil, err
	}
	return &k, nil
}

// readList reads lines "SUITE NAME: REASON". Empty lines and those with # at their beginning are for people.
func readList(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	list := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, found := strings.Cut(line, ": ")
		if !found || strings.Count(name, " ") != 1 || reason == "" {
			return nil, fmt.Errorf("%s: not SUITE NAME: REASON: %q", path, line)
		}
		if _, again := list[name]; again {
			return nil, fmt.Errorf("%s: %s is there twice", path, name)
		}
		list[name] = reason
	}
	return list, lines.Err()
}

// reason finds the entry of a test, that of the suite with its front end or of all.
func reason(list map[string]string, suite, test string) (string, bool) {
	if found, ok := list[suite+" "+test]; ok {
		return found, true
	}
	base, _, _ := strings.Cut(suite, "/")
	found, ok := list[base+" "+test]
	return found, ok
}

// A report is what a suite has come to.
type report struct {
	suite, worker string
	count         map[outcome]int
	unknown       []string // fail, and are in no list
	strike        []string // pass, and are in a list
	missing       []string // are in the part, and did not run
	output        map[string][]string
}

func (r report) failed() bool { return len(r.unknown)+len(r.strike)+len(r.missing) > 0 }

func (r report) String() string {
	var out strings.Builder
	total := 0
	for _, n := range r.count {
		total += n
	}
	fmt.Fprintf(&out, "%s, %s: %d of %d pass, %d fail, %d skipped, %d unfinished\n", r.suite, r.worker,
		r.count[passed], total, r.count[failed], r.count[skipped], r.count[unfinished])
	for _, name := range r.unknown {
		fmt.Fprintf(&out, "  fails, and is not listed: %s %s\n", r.suite, name)
		for _, line := range r.output[name] {
			fmt.Fprintf(&out, "    %s\n", line)
		}
	}
	for _, name := range r.strike {
		fmt.Fprintf(&out, "  passes, strike it from the list: %s %s\n", r.suite, name)
	}
	for _, name := range r.missing {
		fmt.Fprintf(&out, "  did not run, and is in part.txt: %s %s\n", r.suite, name)
	}
	return out.String()
}

// compare finds the results that are not those of the lists.
func compare(suite, worker string, results *results, k *known) report {
	r := report{suite: suite, worker: worker, count: map[outcome]int{}, output: results.output}
	for _, test := range slices.Sorted(maps.Keys(results.outcome)) {
		result := results.outcome[test]
		r.count[result]++
		_, ours := reason(k.mica, suite, test)
		_, theirs := reason(k.buildkitd, suite, test)
		fails := result == failed || result == unfinished
		switch {
		case fails && !theirs && (worker != "mica" || !ours):
			r.unknown = append(r.unknown, test)
		case result == passed && (worker == "mica" && ours || worker != "mica" && theirs):
			r.strike = append(r.strike, test)
		}
	}
	return r
}
