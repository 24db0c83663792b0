// Command man writes the manual pages of mica's commands to a directory, one for each command.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: man VERSION DATE DIRECTORY")
	}
	root := cli.Command()
	root.InitDefaultCompletionCmd()
	if err := writePages(root, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatalf("man: %v", err)
	}
}

// writePages writes the page of a command and those of the commands below it.
func writePages(cmd *cobra.Command, version, date, dir string) error {
	cmd.InitDefaultHelpFlag()
	page := fmt.Sprintf(".TH %q 1 %q %q \"mica manual\"\n", strings.ToUpper(name(cmd)), date, "mica "+version) + body(cmd)
	if err := os.WriteFile(filepath.Join(dir, name(cmd)+".1"), []byte(page), 0o644); err != nil {
		return err
	}
	for _, sub := range documented(cmd) {
		if err := writePages(sub, version, date, dir); err != nil {
			return err
		}
	}
	return nil
}

// body returns the sections of a page, in the order that man-pages(7) has them.
func body(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escape(name(cmd)), escape(cmd.Short))
	use := cmd.UseLine()
	if cmd.HasAvailableSubCommands() && cmd.HasParent() {
		use = cmd.CommandPath() + " COMMAND"
	}
	rest := strings.TrimPrefix(use, cmd.CommandPath())
	fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fR%s\n", escape(cmd.CommandPath()), escape(rest))
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s.\n", escape(cmd.Short))
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(&b, ".PP\nAliases: %s.\n", escape(strings.Join(cmd.Aliases, ", ")))
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range documented(cmd) {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR(1)\n%s\n", escape(name(sub)), escape(sub.Short))
		}
	}
	b.WriteString(options("OPTIONS", cmd.LocalFlags()))
	b.WriteString(options("GLOBAL OPTIONS", cmd.InheritedFlags()))
	if cmd.HasParent() {
		fmt.Fprintf(&b, ".SH SEE ALSO\n\\fB%s\\fR(1)\n", escape(name(cmd.Parent())))
	}
	return b.String()
}

// options returns a section of flags, or "" if there is none to show.
func options(heading string, flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		if b.Len() == 0 {
			fmt.Fprintf(&b, ".SH %s\n", heading)
		}
		value, usage := pflag.UnquoteUsage(f)
		if value != "" {
			value = ` \fI` + escape(value) + `\fR`
		}
		b.WriteString(".TP\n")
		if f.Shorthand != "" && f.ShorthandDeprecated == "" {
			fmt.Fprintf(&b, "\\fB\\-%s\\fR, ", f.Shorthand)
		}
		fmt.Fprintf(&b, "\\fB\\-\\-%s\\fR%s\n%s\n", escape(f.Name), value, escape(usage))
	})
	return b.String()
}

// name returns the name of a command's page: mica-image-ls.
func name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// documented returns the commands below cmd that --help shows.
func documented(cmd *cobra.Command) []*cobra.Command {
	var shown []*cobra.Command
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			shown = append(shown, sub)
		}
	}
	return shown
}

// escape returns text that troff prints as it is.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`, "\n", " ").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
