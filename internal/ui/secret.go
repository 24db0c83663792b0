package ui

import (
	"strings"

	"github.com/micabuild/mica/internal/redact"
)

// hidden stands for a value that is not shown.
const hidden = "(hidden)"

// hideSecret is a variable, NAME=VALUE, as it may be shown: without the value of one whose name says that it is a secret.
func hideSecret(variable string) string {
	name, value, ok := strings.Cut(variable, "=")
	if ok && value != "" && redact.IsSecret(name) {
		return name + "=" + hidden
	}
	return redact.URLs(variable)
}
