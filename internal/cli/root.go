package cli

import (
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/buildcmd"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/diffcmd"
	"github.com/micabuild/mica/internal/cli/explorecmd"
	"github.com/micabuild/mica/internal/cli/historycmd"
	"github.com/micabuild/mica/internal/cli/imagecmd"
	"github.com/micabuild/mica/internal/cli/kanikocmd"
	"github.com/micabuild/mica/internal/cli/registrycmd"
	"github.com/micabuild/mica/internal/cli/runcmd"
	"github.com/micabuild/mica/internal/cli/servecmd"
	"github.com/micabuild/mica/internal/cli/systemcmd"
	"github.com/micabuild/mica/internal/cli/uicmd"
)

// Command returns mica's commands and flags, for what documents them. Commands that it is asked to run have no streams.
func Command() *cobra.Command { return newRootCommand(&command.App{}) }

func newRootCommand(app *command.App) *cobra.Command {
	root := &cobra.Command{
		Use:              "mica [OPTIONS] COMMAND [ARG...]",
		Short:            "Build, list, explain, ship and run container images",
		SilenceUsage:     true,
		SilenceErrors:    true,
		TraverseChildren: true,
		Args:             cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return command.UnknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.SetOut(app.Stdout)
	root.SetErr(app.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &command.UsageError{Err: err} })
	app.AddFlags(root.PersistentFlags())
	root.AddCommand(common(
		buildcmd.NewBuildCommand(app),
		runcmd.NewRunCommand(app),
		imagecmd.NewImagesCommand(app),
		imagecmd.NewHistoryCommand(app),
		imagecmd.NewInspectCommand(app),
		imagecmd.NewTagCommand(app),
		imagecmd.NewRmiCommand(app),
		imagecmd.NewSaveCommand(app),
		imagecmd.NewLoadCommand(app),
		imagecmd.NewImportCommand(app),
		imagecmd.NewExportCommand(app),
		registrycmd.NewPullCommand(app),
		registrycmd.NewPushCommand(app),
		registrycmd.NewCopyCommand(app),
		registrycmd.NewLoginCommand(app),
	)...)
	root.AddCommand(
		buildcmd.NewBakeCommand(app),
		historycmd.NewWhyCommand(app),
		diffcmd.NewDiffCommand(app),
		uicmd.NewUICommand(app),
		servecmd.NewServeCommand(app),
		servecmd.NewDialCommand(app),
		explorecmd.NewAnalyzeCommand(app),
		explorecmd.NewExploreCommand(app),
		explorecmd.NewSBOMCommand(app),
		registrycmd.NewLogoutCommand(app),
		registrycmd.NewTagsCommand(app),
		registrycmd.NewCatalogCommand(app),
		registrycmd.NewManifestCommand(app),
		systemcmd.NewInfoCommand(app),
		systemcmd.NewVersionCommand(app),
		kanikocmd.NewExecutorCommand(app, buildcmd.Build),
	)
	root.AddCommand(managementCommands(app)...)
	useDockersHelp(root)
	return root
}

// managementCommands are docker's groups, of which most commands have a shorter name, too.
func managementCommands(app *command.App) []*cobra.Command {
	return []*cobra.Command{
		historycmd.NewBuildsCommand(app),
		command.Group("image", "Manage images",
			buildcmd.NewBuildCommand(app),
			renamed(imagecmd.NewImagesCommand(app), "ls [OPTIONS] [REPOSITORY[:TAG]]", "list"),
			imagecmd.NewHistoryCommand(app),
			imagecmd.NewImageInspectCommand(app),
			imagecmd.NewTagCommand(app),
			renamed(imagecmd.NewRmiCommand(app), "rm [OPTIONS] IMAGE [IMAGE...]", "remove"),
			imagecmd.NewImagePruneCommand(app),
			imagecmd.NewSaveCommand(app),
			imagecmd.NewLoadCommand(app),
			imagecmd.NewImportCommand(app),
			registrycmd.NewPullCommand(app),
			registrycmd.NewPushCommand(app),
		),
		command.Group("builder", "Manage builds",
			buildcmd.NewBuilderPruneCommand(app),
			buildcmd.NewBuildCommand(app),
		),
		command.Group("container", "Manage containers",
			runcmd.NewRunCommand(app),
		),
		command.Group("system", "Manage mica",
			systemcmd.NewSystemDfCommand(app),
			systemcmd.NewInfoCommand(app),
		),
	}
}

func renamed(cmd *cobra.Command, use string, aliases ...string) *cobra.Command {
	cmd.Use, cmd.Aliases = use, aliases
	return cmd
}
