package ui

import (
	"strings"
	"testing"
)

// TestShownTexts: secrets are not shown, by the names of their variables, in URLs, and in commands, of which very long ones are cut.
func TestShownTexts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"PATH=/bin": "PATH=/bin", "API_TOKEN=hunter2": "API_TOKEN=(hidden)", "API_TOKEN=": "API_TOKEN=", "URL=https://u:hunter2@h/": "URL=https://xxxxx:xxxxx@h/", "odd": "odd", "A=\u202eb": `A=\u202eb`,
	} {
		if got := hideSecret(text); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	long := shownCommand("RUN é" + strings.Repeat("é", maxCommand))
	if len(long) > maxCommand+len("…") || !strings.HasSuffix(long, "é…") || shownCommand("RUN make") != "RUN make" {
		t.Errorf("%d bytes, %q", len(long), long[len(long)-10:])
	}
	if got := shownCommand("RUN API_TOKEN=hunter2 make https://u:hunter2@h/"); strings.Contains(got, "hunter2") {
		t.Error(got)
	}
}
