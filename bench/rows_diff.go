//go:build e2e

package main

import "os/exec"

const (
	groupDiff = "Comparing images"
	noteDiff  = "The peers of `mica diff` are not measured here: docs/diff.md compares them."
)

// diffRows lists comparisons of images of 50,000 files, of which one differs.
func (b *bench) diffRows() []row {
	a := job{context: b.context("many"), file: "Dockerfile.run", tag: "diff-a"}
	changed := a
	changed.tag = "diff-b"
	setup := func(e engine) error {
		if err := all(e.build(a)); err != nil {
			return err
		}
		if err := b.changeOne(); err != nil {
			return err
		}
		return all(e.build(changed), flattened(e, "diff-a", "flat-a"), flattened(e, "diff-b", "flat-b"))
	}
	compare := func(name, a, b string) row {
		return row{
			group: groupDiff, name: name, note: noteDiff, target: target{Seconds: 1}, kinds: []kind{kindMica}, store: mainStore, setup: setup,
			command: func(e engine) (*exec.Cmd, error) {
				diff := e.command("diff", a, b)
				cmd := exec.Command("/bin/sh", "-c", commandLine(diff)+"; test $? = 1") // they differ
				cmd.Env = diff.Env
				return cmd, nil
			},
		}
	}
	return []row{
		compare("diff, 50,000 files, a base in common", "diff-a", "diff-b"),
		compare("diff, 50,000 files, no layer in common", "flat-a", "flat-b"),
	}
}

// flattened is a command that makes an image of one layer of another image.
func flattened(e engine, from, name string) *exec.Cmd {
	export := e.command("export", from)
	cmd := exec.Command("/bin/sh", "-c", commandLine(export)+" | "+commandLine(e.command("import", "-", name)))
	cmd.Env = export.Env
	return cmd
}
