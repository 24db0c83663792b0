package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/micabuild/mica/internal/bake"
)

// calls reports whether a target asks the front end in place of a build.
func (t *bakeTarget) calls() bool {
	c, err := t.flags.parseCall()
	return err == nil && c.name != ""
}

func anyCall(targets map[string]*bakeTarget) bool {
	for _, t := range targets {
		if t.calls() {
			return true
		}
	}
	return false
}

// printAnswers prints what the front end said of each target, by their names. The exit code is the first that is not 0.
func (f *bakeFlags) printAnswers(app *App, def *bake.Definition, b *baking) error {
	call, err := f.parseCall()
	if err != nil {
		return err
	}
	if call.json {
		return printAnswersJSON(app, def, b)
	}
	var failed error
	first := true
	for _, name := range slices.Sorted(maps.Keys(b.targets)) {
		t := b.targets[name]
		if !t.calls() {
			continue
		}
		if !first {
			fmt.Fprintln(app.Stdout)
		}
		first = false
		fmt.Fprintln(app.Stdout, name)
		if d := def.Targets[name].Description; d != "" {
			fmt.Fprintln(app.Stdout, d)
		}
		fmt.Fprintln(app.Stdout)
		err := t.flags.printAnswer(app, b.results[name].Answer)
		var exit *exitError
		if err != nil && !errors.As(err, &exit) {
			fmt.Fprintf(app.Stdout, "error: %v\n", err)
			err = &exitError{code: 1}
		}
		if failed == nil {
			failed = err
		}
	}
	return failed
}

// printAnswersJSON prints them in one document, each beside its target.
func printAnswersJSON(app *App, def *bake.Definition, b *baking) error {
	out := struct {
		Group  map[string]*bake.Group    `json:"group,omitempty"`
		Target map[string]map[string]any `json:"target"`
	}{def.Groups, map[string]map[string]any{}}
	var failed error
	for _, name := range slices.Sorted(maps.Keys(b.targets)) {
		t := b.targets[name]
		out.Target[name] = map[string]any{"build": def.Targets[name]}
		call, err := t.flags.parseCall()
		if err != nil {
			return err
		}
		if call.name == "" {
			continue
		}
		key := call.name
		if key == "lint" {
			key = "check"
		}
		answer := b.results[name].Answer
		out.Target[name][key] = json.RawMessage(answer["result.json"])
		if code, _ := strconv.Atoi(string(answer["result.statuscode"])); code != 0 && !call.ignoreStatus && failed == nil {
			failed = &exitError{code: code}
		}
	}
	return errors.Join(printIndented(app, out), failed)
}
