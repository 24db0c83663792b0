package buildcmd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tonistiigi/go-csvvalue"

	"github.com/micabuild/mica/internal/bake"
	"github.com/micabuild/mica/internal/cli/command"
)

// bakeList is the value of --list.
type bakeList struct {
	kind string // "targets" or "variables"
	json bool
}

// parseBakeList reads --list: "targets", "variables", or "type=targets,format=json".
func parseBakeList(text string) (*bakeList, error) {
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return nil, fmt.Errorf("invalid list %q: %w", text, err)
	}
	l, format := &bakeList{}, "table"
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		switch key = strings.TrimSpace(strings.ToLower(key)); {
		case !ok && len(fields) == 1:
			l.kind = f
		case !ok:
			return nil, fmt.Errorf("invalid value %s", f)
		case key == "type":
			l.kind = value
		case key == "format":
			format = value
		default:
			return nil, fmt.Errorf("unexpected key '%s' in '%s'", key, f)
		}
	}
	if l.kind != "targets" && l.kind != "variables" {
		return nil, fmt.Errorf("invalid list type %q: use targets or variables", l.kind)
	}
	if format != "table" && format != "json" {
		return nil, fmt.Errorf("invalid list format %q: use table or json", format)
	}
	l.json = format == "json"
	return l, nil
}

// printBakeList prints the targets or variables of the files.
func printBakeList(app *command.App, text string, files []bake.File, o bake.Options) error {
	l, err := parseBakeList(text)
	if err != nil {
		return err
	}
	config, variables, err := bake.Parse(files, o)
	if err != nil {
		return err
	}
	var list any
	rows := []string{"TARGET\tDESCRIPTION"}
	if l.kind == "targets" {
		targets := config.List()
		for _, t := range targets {
			rows = append(rows, t.Name+"\t"+t.Description)
		}
		list = targets
	} else {
		rows = []string{"VARIABLE\tTYPE\tVALUE\tDESCRIPTION"}
		slices.SortFunc(variables, func(a, b *bake.Variable) int { return cmp.Compare(a.Name, b.Name) })
		for _, v := range variables {
			value := "<null>"
			if v.Value != nil {
				value = *v.Value
			}
			rows = append(rows, strings.Join([]string{v.Name, v.Type, value, v.Description}, "\t"))
		}
		list = variables
	}
	if l.json {
		enc := json.NewEncoder(app.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	w := tabwriter.NewWriter(app.Stdout, 1, 8, 1, '\t', 0)
	for _, r := range rows {
		fmt.Fprintln(w, r)
	}
	return w.Flush()
}
