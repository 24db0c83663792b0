package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// commonKey is the annotation of the commands that `mica --help` shows first.
const commonKey = "common"

// common marks commands as those that `mica --help` shows first.
func common(commands ...*cobra.Command) []*cobra.Command {
	for _, c := range commands {
		c.Annotations = map[string]string{commonKey: ""}
	}
	return commands
}

// useDockersHelp gives every command docker's way of explaining itself.
func useDockersHelp(root *cobra.Command) {
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { printHelp(cmd.OutOrStdout(), cmd) })
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		printHelp(cmd.OutOrStderr(), cmd)
		return nil
	})
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.DisableFlagsInUseLine = true
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// printHelp prints what a command does, its options, and the commands below it.
func printHelp(w io.Writer, cmd *cobra.Command) {
	use := cmd.UseLine()
	if cmd.HasAvailableSubCommands() && cmd.HasParent() {
		use = cmd.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(w, "Usage:  %s\n\n%s\n", use, wrapped(cmp.Or(cmd.Long, cmd.Short), 100))
	if !cmd.HasParent() {
		printCommands(w, cmd, "Common Commands", isCommon)
		printCommands(w, cmd, "Management Commands", func(c *cobra.Command) bool { return !isCommon(c) && c.HasSubCommands() })
		printCommands(w, cmd, "Commands", func(c *cobra.Command) bool { return !isCommon(c) && !c.HasSubCommands() })
	} else {
		printCommands(w, cmd, "Commands", func(*cobra.Command) bool { return true })
	}
	if cmd.HasAvailableLocalFlags() {
		fmt.Fprintf(w, "\nOptions:\n%s", cmd.LocalFlags().FlagUsagesWrapped(100))
	}
	if cmd.HasParent() && cmd.HasAvailableInheritedFlags() {
		fmt.Fprintf(w, "\nGlobal Options:\n%s", cmd.InheritedFlags().FlagUsagesWrapped(100))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nRun '%s COMMAND --help' for more information on a command.\n", cmd.CommandPath())
	}
}

// wrapped fills the lines of each paragraph of a text with words, so that no line is longer than width if it has no longer word.
func wrapped(text string, width int) string {
	var paragraphs []string
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		var lines []string
		line := ""
		for word := range strings.FieldsSeq(paragraph) {
			if line != "" && len(line)+1+len(word) > width {
				lines, line = append(lines, line), ""
			}
			line = strings.TrimPrefix(line+" "+word, " ")
		}
		paragraphs = append(paragraphs, strings.Join(append(lines, line), "\n"))
	}
	return strings.Join(paragraphs, "\n\n")
}

func isCommon(c *cobra.Command) bool {
	_, ok := c.Annotations[commonKey]
	return ok
}

// printCommands lists the commands below cmd that belong under a heading.
func printCommands(w io.Writer, cmd *cobra.Command, heading string, belongs func(*cobra.Command) bool) {
	var lines strings.Builder
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && belongs(c) {
			fmt.Fprintf(&lines, "  %-*s %s\n", cmd.NamePadding(), c.Name(), c.Short)
		}
	}
	if lines.Len() > 0 {
		fmt.Fprintf(w, "\n%s:\n%s", heading, lines.String())
	}
}
