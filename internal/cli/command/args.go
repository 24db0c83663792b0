package command

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// RequireArgs checks the number of arguments, in docker's words. most < 0 is any number.
func RequireArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		return Verbatim{fmt.Errorf("\"%s\" %s.\nSee '%s --help'.\n\nUsage:  %s\n\n%s",
			cmd.CommandPath(), requirement(least, most, len(args)), cmd.CommandPath(), cmd.UseLine(), cmd.Short)}
	}
}

// requirement says how many arguments a command takes that got n.
func requirement(least, most, n int) string {
	how, want := "exactly", least
	switch {
	case least == 0 && most == 0:
		return "accepts no arguments"
	case most < 0 || most > least && n < least:
		how = "at least"
	case most > least:
		how, want = "at most", most
	}
	noun := "arguments"
	if want == 1 {
		noun = "argument"
	}
	return fmt.Sprintf("requires %s %d %s", how, want, noun)
}

// Group is a command that only has subcommands.
func Group(name, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: name, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return UnknownCommand(name + " " + args[0])
			}
			return cmd.Help()
		},
	}
	g.AddCommand(commands...)
	return g
}

// UnknownCommand is the error for a command that mica does not have.
func UnknownCommand(name string) error {
	return Verbatim{fmt.Errorf("mica: '%s' is not a mica command.\nSee 'mica --help'", name)}
}

// Hide hides flags from the help.
func Hide(fl *pflag.FlagSet, names ...string) {
	for _, name := range names {
		fl.Lookup(name).Hidden = true
	}
}
