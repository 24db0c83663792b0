//go:build e2e

package main

import "os/exec"

const (
	groupWhy = "Explaining builds"
	noteWhy  = "No other engine says why a step runs."
)

// whyRows lists what only mica has: answers about builds, of a context of 50,000 files in which one changed.
func (b *bench) whyRows() []row {
	many := job{context: b.context("many"), file: "Dockerfile.run", tag: "many-run"}
	changed := func(e engine) error {
		if err := b.changeOne(); err != nil {
			return err
		}
		return all(e.build(many))
	}
	mine := func(name string, seconds float64, prepare func(engine) error, args ...string) row {
		return row{
			group: groupWhy, name: name, note: noteWhy, target: target{Seconds: seconds}, kinds: []kind{kindMica}, store: mainStore,
			setup:   func(e engine) error { return b.once(e, many) },
			prepare: prepare, command: func(e engine) (*exec.Cmd, error) { return e.command(args...), nil },
		}
	}
	plan := append(append([]string{"build", "--explain", "--network", "host"}, many.flags()...), many.context)
	return []row{
		mine("build --explain, one of 50,000 files changed", 1, func(engine) error { return b.changeOne() }, plan...),
		mine("why, one of 50,000 files changed", 0.1, changed, "why"),
		mine("why --cost, one of 50,000 files changed", 0.1, changed, "why", "--cost"),
		mine("builds ls", 0.1, nil, "builds", "ls"),
	}
}
