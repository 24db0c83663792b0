package historycmd

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/dockerbuild"
	"github.com/micabuild/mica/internal/history"
)

type exportFlags struct {
	output string
	all    bool
}

func newExportCommand(app *command.App) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] [BUILD...]",
		Short: "Export builds into a .dockerbuild file",
		Long: "Export builds into a .dockerbuild file: their options, steps, logs, trace and provenance. Docker Desktop shows it after " +
			"`docker buildx history import`. By default the newest build that has ended is exported." + named,
		Args:              command.RequireArgs(0, -1),
		ValidArgsFunction: complete(app),
		RunE:              func(cmd *cobra.Command, args []string) error { return runExport(cmd.Context(), app, &f, args) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.output, "output", "o", "", "Write to a file, instead of STDOUT")
	fl.BoolVar(&f.all, "all", false, "Export all builds that have ended")
	return cmd
}

func runExport(ctx context.Context, app *command.App, f *exportFlags, args []string) error {
	if f.all && len(args) > 0 {
		return &command.UsageError{Err: errors.New("--all cannot be used with names of builds")}
	}
	if f.output == "" && app.Stdout.IsTerminal() {
		return errors.New("cowardly refusing to export to a terminal. Use the -o flag or redirect")
	}
	builds, err := open(ctx, app)
	if err != nil {
		return err
	}
	list, err := exported(builds, f.all, args)
	if err != nil {
		return err
	}
	files := make([]dockerbuild.Build, len(list))
	for i, b := range list {
		provenance, err := builds.Provenance(b)
		if err != nil {
			return err
		}
		files[i] = dockerbuild.Build{
			Build: b, Image: func(d digest.Digest) (string, []byte, error) { return manifestOf(app, d) },
			Progress:   func(send func(*bkclient.SolveStatus)) error { return replay(builds, b, send) },
			Provenance: provenance,
		}
	}
	return app.WritePrivate(f.output, func(w io.Writer) error { return dockerbuild.Export(w, files...) })
}

// exported finds the builds that are to be exported: those with the names, the newest that has ended, or all that have.
func exported(builds *history.Builds, all bool, names []string) ([]*history.Build, error) {
	var list []*history.Build
	for _, name := range names {
		b, err := builds.Find(name)
		if err != nil {
			return nil, err
		}
		if b.Status == history.Running {
			return nil, errors.New("build " + b.Ref + " is running: it can be exported when it has ended")
		}
		list = append(list, b)
	}
	if len(names) > 0 {
		return list, nil
	}
	known, err := builds.List()
	for _, b := range known {
		if b.Status != history.Running && (all || len(list) == 0) {
			list = append(list, b)
		}
	}
	if err == nil && len(list) == 0 {
		return nil, errors.New("the store remembers no build that has ended")
	}
	return list, err
}

// manifestOf reads a manifest or an index of the store.
func manifestOf(app *command.App, d digest.Digest) (string, []byte, error) {
	raw, err := app.Store.ReadBlob(d)
	if err != nil {
		return "", nil, err
	}
	var m struct {
		MediaType string `json:"mediaType"`
	}
	err = json.Unmarshal(raw, &m)
	return m.MediaType, raw, err
}
