package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Command returns mica's commands and flags, for what documents them. Commands that it is asked to run have no streams.
func Command() *cobra.Command { return newRootCommand(&App{}) }

func newRootCommand(app *App) *cobra.Command {
	root := &cobra.Command{
		Use:              "mica [OPTIONS] COMMAND [ARG...]",
		Short:            "Build, list, explain, ship and run container images",
		SilenceUsage:     true,
		SilenceErrors:    true,
		TraverseChildren: true,
		Args:             cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(args[0])
			}
			return cmd.Help()
		},
	}
	root.SetOut(app.Stdout)
	root.SetErr(app.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.PersistentFlags().StringVar(&app.root, "root", "", "Directory of the store (default: $MICA_ROOT, /var/lib/mica, or ~/.local/share/mica)")
	root.AddCommand(
		newBuildCommand(app), newBakeCommand(app), newImagesCommand(app), newHistoryCommand(app), newInspectCommand(app), newTagCommand(app),
		newRmiCommand(app), newVersionCommand(app), newInfoCommand(app), newRunCommand(app),
		newSaveCommand(app), newLoadCommand(app), newImportCommand(app), newExportCommand(app),
		newPullCommand(app), newPushCommand(app), newLoginCommand(app), newLogoutCommand(app), newTagsCommand(app),
		newCatalogCommand(app), newManifestCommand(app), newCopyCommand(app),
		group("image", "Manage images",
			newBuildCommand(app), renamed(newImagesCommand(app), "ls [OPTIONS] [REPOSITORY[:TAG]]", "list"),
			newHistoryCommand(app), newImageInspectCommand(app), newTagCommand(app),
			renamed(newRmiCommand(app), "rm [OPTIONS] IMAGE [IMAGE...]", "remove"), newImagePruneCommand(app),
			newSaveCommand(app), newLoadCommand(app), newImportCommand(app), newPullCommand(app), newPushCommand(app)),
		group("builder", "Manage builds", newBuilderPruneCommand(app), newBuildCommand(app)),
		group("container", "Manage containers", newRunCommand(app)),
		group("system", "Manage mica", newSystemDfCommand(app), newInfoCommand(app)),
	)
	completeImages(app, root)
	useDockersHelp(root)
	return root
}

// group is a command that only has subcommands.
func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: name, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(name + " " + args[0])
			}
			return cmd.Help()
		},
	}
	g.AddCommand(commands...)
	return g
}

func unknownCommand(name string) error {
	return verbatim{fmt.Errorf("mica: '%s' is not a mica command.\nSee 'mica --help'", name)}
}

func renamed(cmd *cobra.Command, use string, aliases ...string) *cobra.Command {
	cmd.Use, cmd.Aliases = use, aliases
	return cmd
}

// completeImages makes the shell complete the names of images where a command takes one.
func completeImages(app *App, root *cobra.Command) {
	takesImages := map[string]bool{
		"history": true, "inspect": true, "tag": true, "rmi": true, "rm": true, "run": true, "save": true, "export": true,
	}
	complete := func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		if app.Open(cmd.Context()) != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		images, _ := app.Images.List(cmd.Context())
		var names []string
		for _, img := range images {
			names = append(names, img.Names...)
			if len(img.Names) == 0 {
				names = append(names, img.ShortID())
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if takesImages[c.Name()] {
			c.ValidArgsFunction = complete
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}
