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
		verb := "Run"
		if most != least && len(args) < least {
			verb = "See"
		}
		return Verbatim{fmt.Errorf("mica: '%s' %s%s", cmd.CommandPath(), requirement(least, most, len(args)), usage(cmd, verb))}
	}
}

// requirement says how many arguments a command takes that got n.
func requirement(least, most, n int) string {
	switch {
	case most == 0:
		return "accepts no arguments"
	case most == least:
		return "requires " + arguments(least)
	case most < 0 || n < least:
		return "requires at least " + arguments(least)
	case least == 0:
		return "requires at most " + arguments(most)
	}
	return fmt.Sprintf("requires at least %d and at most %s", least, arguments(most))
}

func arguments(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// Usage is what follows an error in the use of a command.
func Usage(cmd *cobra.Command) string { return usage(cmd, "Run") }

// usage ends in a line with a verb: Run, or See where arguments are missing of a command that takes several.
func usage(cmd *cobra.Command, verb string) string {
	return fmt.Sprintf("\n\nUsage:  %s\n\n%s", cmd.UseLine(), moreInformation(cmd, verb))
}

func moreInformation(cmd *cobra.Command, verb string) string {
	return fmt.Sprintf("%s '%s --help' for more information", verb, cmd.CommandPath())
}

// Group is a command that only has subcommands.
func Group(name, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: name, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return Verbatim{fmt.Errorf("mica: unknown command: %s %s%s", cmd.CommandPath(), args[0], Usage(cmd))}
			}
			return cmd.Help()
		},
	}
	g.AddCommand(commands...)
	return g
}

// UnknownCommand is the error of the root command for one that mica does not have.
func UnknownCommand(root *cobra.Command, name string) error {
	return Verbatim{fmt.Errorf("mica: unknown command: %s %s\n\n%s", root.CommandPath(), name, moreInformation(root, "Run"))}
}

// Hide hides flags from the help.
func Hide(fl *pflag.FlagSet, names ...string) {
	for _, name := range names {
		fl.Lookup(name).Hidden = true
	}
}
