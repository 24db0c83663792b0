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
	if !ok {
		return shown(variable)
	}
	return shown(name) + "=" + shownValue(name, value)
}

// shownValue is the value of a variable or a label as it may be shown.
func shownValue(name, value string) string {
	if value != "" && analyze.IsSecretName(name) {
		return hidden
	}
	return shownCommand(value)
}

// shown is a text as it may be shown: without credentials, and with escapes for what would change the direction of text or not be seen.
func shown(text string) string {
	return terminal.EscapeString(redact.URLs(strings.ReplaceAll(text, "\r\n", "\n")))
}

// shownAll is shownCommand for each of a list.
func shownAll(list []string) []string {
	var out []string
	for _, text := range list {
		out = append(out, shownCommand(text))
	}
	return out
}

// maxCommand is how much of a command is shown, in bytes. To look for secrets takes a second for a megabyte.
const maxCommand = 16 << 10

// shownCommand is a command or a value of an image's config as it may be shown: without secrets, and without the end of one that is very
// long.
func shownCommand(text string) string {
	if len(text) > maxCommand {
		text = strings.ToValidUTF8(text[:maxCommand], "") + "…"
	}
	return terminal.EscapeString(analyze.MaskText(text))
}
