package ui

import (
	"strings"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/terminal"
)

// hidden replaces a value that is not shown.
const hidden = "(hidden)"

// hideSecret is a variable, NAME=VALUE, as it may be shown: without the value of one whose name says that it is a secret.
func hideSecret(variable string) string {
	name, value, ok := strings.Cut(variable, "=")
	if ok && value != "" && redact.IsSecret(name) {
		return shown(name) + "=" + hidden
	}
	return shown(variable)
}

// shown is a text as it may be shown: without credentials, and with escapes for what would change the direction of text or not be seen.
func shown(text string) string {
	return terminal.EscapeString(redact.URLs(strings.ReplaceAll(text, "\r\n", "\n")))
}

// shownAll is shown for each of a list.
func shownAll(list []string) []string {
	var out []string
	for _, text := range list {
		out = append(out, shown(text))
	}
	return out
}

// maxCommand is how much of a command is shown, in bytes. To look for secrets takes a second for a megabyte.
const maxCommand = 16 << 10

// shownCommand is a command of an image's history as it may be shown: without secrets, and without the end of one that is very long.
func shownCommand(text string) string {
	if len(text) > maxCommand {
		text = strings.ToValidUTF8(text[:maxCommand], "") + "…"
	}
	return terminal.EscapeString(analyze.MaskText(text))
}
