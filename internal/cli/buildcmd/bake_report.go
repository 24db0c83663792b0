package buildcmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/micabuild/mica/internal/bake"
	"github.com/micabuild/mica/internal/cli/command"
)

func anyCall(targets map[string]*bakeTarget) bool {
	for _, t := range targets {
		if t.calls() {
			return true
		}
	}
	return false
}

// printResponses prints the front end's responses by target. The exit code is the first that is not 0.
func (f *bakeFlags) printResponses(app *command.App, def *bake.Definition, b *baking) error {
	call, err := parseCall(f.call, f.check)
	if err != nil {
		return err
	}
	if call.JSON {
		return printResponsesJSON(app, def, b)
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
		err := printResponse(app, t.spec.Call, b.results[name].Response)
		var exit *command.ExitError
		if err != nil && !errors.As(err, &exit) {
			fmt.Fprintf(app.Stdout, "error: %v\n", err)
			err = &command.ExitError{Code: 1}
		}
		if failed == nil {
			failed = err
		}
	}
	return failed
}

// printResponsesJSON prints them in one document, each beside its target.
func printResponsesJSON(app *command.App, def *bake.Definition, b *baking) error {
	out := struct {
		Group  map[string]*bake.Group    `json:"group,omitempty"`
		Target map[string]map[string]any `json:"target"`
	}{def.Groups, map[string]map[string]any{}}
	var failed error
	for _, name := range slices.Sorted(maps.Keys(b.targets)) {
		t := b.targets[name]
		out.Target[name] = map[string]any{"build": def.Targets[name]}
		if !t.calls() {
			continue
		}
		response := b.results[name].Response
		out.Target[name][t.spec.Call.UserName()] = json.RawMessage(response["result.json"])
		if failed == nil {
			failed = responseStatus(t.spec.Call, response)
		}
	}
	return errors.Join(printIndented(app, out), failed)
}
