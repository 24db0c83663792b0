package imagecmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/template"

	"github.com/docker/cli/templates"
	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/image"
)

// NewInspectCommand is `mica inspect`.
func NewInspectCommand(app *command.App) *cobra.Command {
	return inspectCommand(app, "inspect [OPTIONS] NAME|ID [NAME|ID...]", "Return low-level information on images", "object")
}

// NewImageInspectCommand is `mica image inspect`.
func NewImageInspectCommand(app *command.App) *cobra.Command {
	return inspectCommand(app, "inspect [OPTIONS] IMAGE [IMAGE...]", "Display detailed information on one or more images", "image")
}

func inspectCommand(app *command.App, use, short, noun string) *cobra.Command {
	var format, kind, platform string
	var remote bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: command.RequireArgs(1, -1), ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind != "" && kind != "image" {
				return fmt.Errorf("%q is not a valid value for --type: mica has images", kind)
			}
			find, err := inspector(cmd.Context(), app, remote, platform)
			if err != nil {
				return err
			}
			return runInspect(app, format, noun, args, find)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `Format output: "json" or a Go template`)
	if noun == "image" {
		cmd.Flags().BoolVar(&remote, "remote", false, "Inspect what the registry has, without pulling it")
		cmd.Flags().StringVar(&platform, "platform", "", "Inspect one platform of an image that has several")
	}
	if noun == "object" {
		cmd.Flags().StringVar(&kind, "type", "", "Only inspect objects of the given type: image")
	}
	return cmd
}

// inspector returns a function that finds an image in the store, or at its registry.
func inspector(ctx context.Context, app *command.App, remote bool, platform string) (func(ref string) (*imagetypes.InspectResponse, error), error) {
	want, err := command.ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	if remote {
		return func(ref string) (*imagetypes.InspectResponse, error) { return inspectRemote(ctx, app, ref, want) }, nil
	}
	return func(ref string) (*imagetypes.InspectResponse, error) {
		if err := app.Open(ctx); err != nil {
			return nil, err
		}
		img, err := app.Images.FindNamed(ctx, ref, want)
		if err != nil {
			return nil, err
		}
		return dockerapi.Inspect(img), nil
	}, nil
}

// runInspect prints the images that it finds. Its error names the others.
func runInspect(app *command.App, format, noun string, refs []string, find func(ref string) (*imagetypes.InspectResponse, error)) error {
	var tmpl *template.Template
	if format != "" && format != "json" {
		var err error
		if tmpl, err = templates.Parse(format); err != nil {
			return &command.ExitError{Code: 64, Err: command.Verbatim{Err: fmt.Errorf("template parsing error: %w", err)}}
		}
	}
	var found []*imagetypes.InspectResponse
	var errs command.ErrorList
	for _, ref := range refs {
		r, err := find(ref)
		var missing *image.NotFoundError
		switch {
		case errors.As(err, &missing) && noun == "object":
			errs = append(errs, command.Verbatim{Err: fmt.Errorf("error: no such object: %s", ref)})
		case err != nil:
			errs = append(errs, err)
		default:
			found = append(found, r)
		}
	}
	if err := printInspect(app, found, format, tmpl); err != nil {
		return err
	}
	return errs.OrNil()
}

func printInspect(app *command.App, found []*imagetypes.InspectResponse, format string, tmpl *template.Template) error {
	var buf bytes.Buffer
	switch {
	case tmpl != nil:
		for _, r := range found {
			if err := executeInspect(&buf, tmpl, r); err != nil {
				fmt.Fprintln(app.Stdout) // docker ends a line that it has not begun
				return &command.ExitError{Code: 1, Err: command.Verbatim{Err: fmt.Errorf("template parsing error: %w", err)}}
			}
			buf.WriteByte('\n')
		}
	case format == "json":
		enc := json.NewEncoder(&buf)
		if err := enc.Encode(found); err != nil {
			return err
		}
	case len(found) == 0:
		buf.WriteString("[]\n")
	default:
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "    ")
		if err := enc.Encode(found); err != nil {
			return err
		}
	}
	_, err := app.Stdout.Write(buf.Bytes())
	return err
}

// executeInspect executes a template on the response with Go's field names, and if that fails, with the field names of the JSON, as
// docker does: {{.ID}} and {{.Id}} both work. A key that a map lacks is "<no value>". An unknown field is an error.
func executeInspect(buf *bytes.Buffer, tmpl *template.Template, r *imagetypes.InspectResponse) error {
	var typed bytes.Buffer
	if err := tmpl.Execute(&typed, r); err == nil {
		buf.Write(typed.Bytes())
		return nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var raw any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	return tmpl.Option("missingkey=error").Execute(buf, raw)
}
