package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestBody(t *testing.T) {
	root := &cobra.Command{Use: "mica", Short: "Build images"}
	cmd := &cobra.Command{Use: "tag IMAGE NAME", Aliases: []string{"name"}, Short: "Name an image", Run: func(*cobra.Command, []string) {}}
	cmd.DisableFlagsInUseLine = true
	hidden := &cobra.Command{Use: "secret", Hidden: true, Run: func(*cobra.Command, []string) {}}
	root.AddCommand(cmd, hidden)
	root.PersistentFlags().String("root", "", "`directory` of the store")
	cmd.Flags().BoolP("force-all", "f", false, `.replace C:\names`)
	cmd.Flags().Bool("old", false, "gone")
	if err := cmd.Flags().MarkHidden("old"); err != nil {
		t.Fatal(err)
	}

	want := `.SH NAME
mica\-tag \- Name an image
.SH SYNOPSIS
\fBmica tag\fR IMAGE NAME
.SH DESCRIPTION
Name an image.
.PP
Aliases: name.
.SH OPTIONS
.TP
\fB\-f\fR, \fB\-\-force\-all\fR
\&.replace C:\enames
.SH GLOBAL OPTIONS
.TP
\fB\-\-root\fR \fIdirectory\fR
directory of the store
.SH SEE ALSO
\fBmica\fR(1)
`
	if got := body(cmd); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := body(root); !strings.Contains(got, ".SH COMMANDS\n.TP\n\\fBmica\\-tag\\fR(1)\nName an image\n") || strings.Contains(got, "secret") {
		t.Errorf("the commands of mica are not those that --help shows:\n%s", got)
	}
}
