package buildcmd

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

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cli/command"
)

// printResponse prints the front end's response to a call, as docker does.
func printResponse(app *command.App, c buildspec.Call, response map[string][]byte) error {
	var err error
	data := response["result.json"]
	switch {
	case c.JSON:
		fmt.Fprintln(app.Stdout, string(data))
	case c.Name == "outline":
		err = outline.PrintOutline(data, app.Stdout)
	case c.Name == "targets":
		err = targets.PrintTargets(data, app.Stdout)
	default:
		err = printLint(app.Stdout, data)
	}
	if err != nil {
		return err
	}
	return responseStatus(c, response)
}

// responseStatus is the exit code that the front end asks for.
func responseStatus(c buildspec.Call, response map[string][]byte) error {
	if code, _ := strconv.Atoi(string(response["result.statuscode"])); code != 0 && !c.IgnoreStatus {
		return &command.ExitError{Code: code}
	}
	return nil
}

func printLint(w io.Writer, data []byte) error {
	var found lint.LintResults
	if err := json.Unmarshal(data, &found); err != nil {
		return fmt.Errorf("read the result of the check: %w", err)
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
