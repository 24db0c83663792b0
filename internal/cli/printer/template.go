package printer

import (
	"errors"
	"fmt"
	"io"
	"text/template"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/templates"

	"github.com/micabuild/mica/internal/cli/command"
)

// Template prints one value by "json" or a template.
func Template(w io.Writer, format string, value any) error {
	if format == formatter.JSONFormatKey {
		format = formatter.JSONFormat
	}
	tmpl, err := templates.Parse(format)
	if err != nil {
		return &command.ExitError{Code: 64, Err: command.Verbatim{Err: fmt.Errorf("template parsing error: %w", err)}}
	}
	err = tmpl.Execute(w, value)
	var wrong template.ExecError
	if err != nil && !errors.As(err, &wrong) {
		return fmt.Errorf("write to stdout: %w", err)
	}
	if err != nil {
		return &command.ExitError{Code: 64, Err: command.Verbatim{Err: fmt.Errorf("template parsing error: %w", err)}}
	}
	fmt.Fprintln(w)
	return nil
}
