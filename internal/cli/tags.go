package cli

import (
	"fmt"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"
)

func newTagsCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "tags REPOSITORY",
		Short: "List the tags that a registry has of a repository",
		Args:  requireArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := remoteName(args[0])
			if err != nil {
				return err
			}
			tags, err := app.registry().Tags(cmd.Context(), reference.TrimNamed(name))
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

func newCatalogCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "catalog REGISTRY",
		Short: "List the repositories of a registry",
		Args:  requireArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.registry().Catalog(cmd.Context(), server(args), func(repository string) error {
				_, err := fmt.Fprintln(app.Stdout, repository)
				return err
			})
		},
	}
}
