package printer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/template"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/templates"

	"github.com/micabuild/mica/internal/cli/command"
)

// Template prints one value by "json" or a template.
func Template(w io.Writer, format string, value any) error {
	if format == formatter.JSONFormatKey {
		return writeJSON(w, value)
	}
	tmpl, err := templates.Parse(format)
	if err != nil {
		return &command.ExitError{Code: 64, Err: command.Verbatim{Err: fmt.Errorf("template parsing error: %w", err)}}
	}
	err = tmpl.Execute(w, value)
	var wrong template.ExecError
	if err != nil && !errors.As(err, &wrong) {
		return unwritten(err)
	}
	if err != nil {
		return &command.ExitError{Code: 64, Err: command.Verbatim{Err: fmt.Errorf("template parsing error: %w", err)}}
	}
	fmt.Fprintln(w)
	return nil
}

// writeJSON writes what the template "{{json .}}" does, without copies of it in memory.
func writeJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return unwritten(err)
	}
	return nil
}

// unwritten says that output could not be written. The name of the file tells nothing.
func unwritten(err error) error {
	if path := new(os.PathError); errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("write to stdout: %w", err)
}
