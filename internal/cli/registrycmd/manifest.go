package registrycmd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/progress"
	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/transfer"
)

// NewManifestCommand is `mica manifest`.
func NewManifestCommand(app *command.App) *cobra.Command {
	return command.Group("manifest", "Manage image manifests and indexes at registries",
		newManifestInspectCommand(app), newManifestCreateCommand(app), newManifestAnnotateCommand(app), newManifestPushCommand(app),
		newManifestRmCommand(app))
}

func newManifestInspectCommand(app *command.App) *cobra.Command {
	var verbose, raw, insecure bool
	cmd := &cobra.Command{
		Use:               "inspect [OPTIONS] [MANIFEST_LIST] MANIFEST",
		Short:             "Display an image manifest, or manifest list",
		Args:              command.RequireArgs(1, 2),
		ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runManifestInspect(cmd.Context(), app, args[len(args)-1], verbose, raw)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "Output additional info including layers and platform")
	cmd.Flags().BoolVar(&raw, "raw", false, "Output the very bytes that the registry has")
	hideInsecure(cmd, &insecure)
	return cmd
}

// hideInsecure accepts docker's flag. mica reads registries.conf for it.
func hideInsecure(cmd *cobra.Command, insecure *bool) {
	cmd.Flags().BoolVar(insecure, "insecure", false, "Allow communication with an insecure registry (set insecure = true in registries.conf)")
	_ = cmd.Flags().MarkHidden("insecure")
}

func runManifestInspect(ctx context.Context, app *command.App, ref string, verbose, raw bool) error {
	name, err := command.RemoteName(ref)
	if err != nil {
		return err
	}
	name = reference.TagNameOnly(name)
	if err := app.Open(ctx); err != nil {
		return err
	}
	if list, err := transfer.LoadList(app.Store, name); err == nil && !verbose {
		_, data, err := list.Index()
		if err != nil {
			return err
		}
		return printJSON(app, data, raw)
	}
	r, err := transfer.Inspect(ctx, app.Registry(), name)
	if err != nil {
		return err
	}
	if !verbose {
		return printJSON(app, r.Raw, raw)
	}
	images, err := r.Images(ctx)
	if err != nil {
		return err
	}
	var list []map[string]any
	for _, img := range images {
		d := img.Target
		d.Platform = &img.Config.Platform
		key := "OCIManifest"
		if img.Target.MediaType != ocispec.MediaTypeImageManifest {
			key = "SchemaV2Manifest"
		}
		list = append(list, map[string]any{"Ref": name.String(), "Descriptor": d, "Raw": img.Raw, key: json.RawMessage(img.Raw)})
	}
	var data []byte
	if len(list) == 1 {
		data, err = json.Marshal(list[0])
	} else {
		data, err = json.Marshal(list)
	}
	if err != nil {
		return err
	}
	return printJSON(app, data, false)
}

// printJSON prints JSON with docker's indentation, or unchanged.
func printJSON(app *command.App, data []byte, raw bool) error {
	var out bytes.Buffer
	if raw {
		out.Write(data)
	} else {
		if err := json.Indent(&out, bytes.TrimSpace(data), "", "\t"); err != nil {
			return err
		}
		out.WriteByte('\n')
	}
	_, err := app.Stdout.Write(out.Bytes())
	return err
}

func newManifestCreateCommand(app *command.App) *cobra.Command {
	var amend, insecure bool
	cmd := &cobra.Command{
		Use:   "create MANIFEST_LIST MANIFEST [MANIFEST...]",
		Short: "Create a manifest list of images at registries, to annotate and push",
		Args:  command.RequireArgs(2, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runManifestCreate(cmd.Context(), app, args[0], args[1:], amend)
		},
	}
	cmd.Flags().BoolVarP(&amend, "amend", "a", false, "Amend an existing manifest list")
	hideInsecure(cmd, &insecure)
	return cmd
}

func runManifestCreate(ctx context.Context, app *command.App, ref string, manifests []string, amend bool) error {
	name, err := taggedName(ref)
	if err != nil {
		return err
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	list, err := transfer.LoadList(app.Store, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		list = &transfer.ManifestList{Name: name.String()}
	case err != nil:
		return err
	case !amend:
		return fmt.Errorf("refusing to amend an existing manifest list with no --amend flag")
	}
	for _, m := range manifests {
		n, err := command.RemoteName(m)
		if err != nil {
			return err
		}
		if err := list.Add(ctx, app.Registry(), reference.TagNameOnly(n)); err != nil {
			return err
		}
	}
	if err := list.Save(app.Store); err != nil {
		return err
	}
	fmt.Fprintln(app.Stdout, "Created manifest list "+name.String())
	return nil
}

// taggedName parses the name of a manifest list.
func taggedName(ref string) (reference.Named, error) {
	name, err := command.RemoteName(ref)
	if err != nil {
		return nil, err
	}
	if _, ok := name.(reference.Digested); ok {
		return nil, fmt.Errorf("%s: a name with a digest cannot be given to anything", ref)
	}
	return reference.TagNameOnly(name), nil
}

func newManifestAnnotateCommand(app *command.App) *cobra.Command {
	var p ocispec.Platform
	cmd := &cobra.Command{
		Use:   "annotate [OPTIONS] MANIFEST_LIST MANIFEST",
		Short: "Say for which platform an image of a manifest list is",
		Args:  command.RequireArgs(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runManifestAnnotate(cmd.Context(), app, args[0], args[1], p)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&p.OS, "os", "", "Set operating system")
	fl.StringVar(&p.Architecture, "arch", "", "Set architecture")
	fl.StringVar(&p.Variant, "variant", "", "Set architecture variant")
	fl.StringVar(&p.OSVersion, "os-version", "", "Set operating system version")
	fl.StringSliceVar(&p.OSFeatures, "os-features", nil, "Set operating system feature")
	return cmd
}

func runManifestAnnotate(ctx context.Context, app *command.App, ref, manifest string, p ocispec.Platform) error {
	name, err := taggedName(ref)
	if err != nil {
		return err
	}
	of, err := command.RemoteName(manifest)
	if err != nil {
		return err
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	list, err := transfer.LoadList(app.Store, name)
	if err != nil {
		return err
	}
	entry, err := list.Entry(ctx, app.Registry(), reference.TagNameOnly(of))
	if err != nil {
		return err
	}
	have := entry.Descriptor.Platform
	if have == nil {
		have = &ocispec.Platform{}
	}
	for _, f := range []struct {
		to    *string
		value string
	}{{&have.OS, p.OS}, {&have.Architecture, p.Architecture}, {&have.Variant, p.Variant}, {&have.OSVersion, p.OSVersion}} {
		*f.to = cmp.Or(f.value, *f.to)
	}
	if len(p.OSFeatures) > 0 {
		have.OSFeatures = p.OSFeatures
	}
	entry.Descriptor.Platform = have
	return list.Save(app.Store)
}

func newManifestPushCommand(app *command.App) *cobra.Command {
	var purge, insecure bool
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] MANIFEST_LIST",
		Short: "Push a manifest list to its registry",
		Args:  command.RequireArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runManifestPush(cmd.Context(), app, args[0], purge)
		},
	}
	cmd.Flags().BoolVarP(&purge, "purge", "p", false, "Remove the local manifest list after push")
	hideInsecure(cmd, &insecure)
	return cmd
}

func runManifestPush(ctx context.Context, app *command.App, ref string, purge bool) error {
	name, err := taggedName(ref)
	if err != nil {
		return err
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	list, err := transfer.LoadList(app.Store, name)
	if err != nil {
		return err
	}
	d := progress.NewLayers(app.Stderr.File(), dockerapi.CopyWords, false)
	root, err := list.Push(ctx, app.Registry(), d.Update)
	d.Finish()
	if err != nil {
		return err
	}
	fmt.Fprintln(app.Stdout, root.Digest)
	if purge {
		return transfer.RemoveList(app.Store, name)
	}
	return nil
}

func newManifestRmCommand(app *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "rm MANIFEST_LIST [MANIFEST_LIST...]",
		Short: "Delete one or more manifest lists from local storage",
		Args:  command.RequireArgs(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := app.Open(cmd.Context()); err != nil {
				return err
			}
			var errs []error
			for _, ref := range args {
				name, err := taggedName(ref)
				if err == nil {
					if err = transfer.RemoveList(app.Store, name); err != nil {
						err = fmt.Errorf("No such manifest: %s", ref) //nolint:staticcheck // Docker's words
					}
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
}
