package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/frontend/subrequests/outline"
	"github.com/moby/buildkit/frontend/subrequests/targets"
	"github.com/moby/buildkit/solver/pb"
	"github.com/tonistiigi/go-csvvalue"
)

// buildCall is what --call asks for: a question to the front end, and the form of the answer.
type buildCall struct {
	name         string // as the front end calls it, "" for a build
	json         bool
	ignoreStatus bool
}

// parseCall reads --call: "check", "outline" or "targets", with ",format=json" and ",ignorestatus=true".
func (f *buildFlags) parseCall() (*buildCall, error) {
	text := f.call
	if f.check {
		text = "check"
	}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return nil, fmt.Errorf("invalid call %q: %w", text, err)
	}
	c := &buildCall{}
	for i, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		switch {
		case i == 0 && !ok:
			c.name = field
		case key == "format" && (value == "json" || value == "text"):
			c.json = value == "json"
		case key == "ignorestatus":
			if c.ignoreStatus, err = strconv.ParseBool(value); err != nil {
				return nil, fmt.Errorf("invalid call %q: ignorestatus is true or false", text)
			}
		default:
			return nil, fmt.Errorf("invalid call %q: unknown field %q", text, field)
		}
	}
	switch c.name {
	case "build":
		c.name = ""
	case "check":
		c.name = "lint"
	case "lint", "outline", "targets":
	default:
		return nil, fmt.Errorf("unknown call %q: use build, check, outline or targets", c.name)
	}
	return c, nil
}

// printAnswer prints what the front end answered, as docker does.
func (f *buildFlags) printAnswer(app *App, answer map[string][]byte) error {
	c, err := f.parseCall()
	if err != nil {
		return err
	}
	data := answer["result.json"]
	switch {
	case c.json:
		fmt.Fprintln(app.Stdout, string(data))
	case c.name == "outline":
		err = outline.PrintOutline(data, app.Stdout)
	case c.name == "targets":
		err = targets.PrintTargets(data, app.Stdout)
	default:
		err = f.printLint(app.Stdout, data)
	}
	if err != nil {
		return err
	}
	if code, _ := strconv.Atoi(string(answer["result.statuscode"])); code != 0 && !c.ignoreStatus {
		return &exitError{code: code}
	}
	return nil
}

func (f *buildFlags) printLint(w io.Writer, data []byte) error {
	var found lint.LintResults
	if err := json.Unmarshal(data, &found); err != nil {
		return fmt.Errorf("read what the check found: %w", err)
	}
	switch n := len(found.Warnings); {
	case n == 1:
		fmt.Fprintln(w, "Check complete, 1 warning has been found!")
	case n > 1:
		fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", n)
	}
	same := func(s *pb.SourceInfo) *pb.SourceInfo { return s }
	if err := found.PrintTo(w, same); err != nil {
		return err
	}
	if found.Error != nil {
		var text strings.Builder
		found.PrintErrorTo(&text, same)
		return errors.New(strings.TrimSpace(text.String()))
	}
	if len(found.Warnings) == 0 {
		fmt.Fprintln(w, "Check complete, no warnings found.")
	}
	return nil
}
