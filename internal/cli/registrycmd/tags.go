package registrycmd

import (
	"fmt"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
)

// NewTagsCommand is `mica tags`.
func NewTagsCommand(app *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "tags REPOSITORY",
		Short: "List the tags that a registry has of a repository",
		Args:  command.RequireArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := command.RemoteName(args[0])
			if err != nil {
				return err
			}
			tags, err := app.Registry().Tags(cmd.Context(), reference.TrimNamed(name))
			if err != nil {
				return err
			}
			for _, t := range tags {
				fmt.Fprintln(app.Stdout, t)
			}
			return nil
		},
	}
}

// NewCatalogCommand is `mica catalog`.
func NewCatalogCommand(app *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "catalog REGISTRY",
		Short: "List the repositories of a registry",
		Args:  command.RequireArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Registry().Catalog(cmd.Context(), server(args), func(repository string) error {
				_, err := fmt.Fprintln(app.Stdout, repository)
				return err
			})
		},
	}
}
