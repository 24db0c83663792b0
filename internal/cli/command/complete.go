package command

import "github.com/spf13/cobra"

// CompleteImages makes the shell complete the names of images in the arguments of a command.
func (a *App) CompleteImages(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	if a.Open(cmd.Context()) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	images, _ := a.Images.List(cmd.Context())
	var names []string
	for _, img := range images {
		names = append(names, img.Names...)
		if len(img.Names) == 0 {
			names = append(names, img.ShortID())
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
