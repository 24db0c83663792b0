package ui

import (
	"fmt"
	"strings"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestShownTexts: secrets are not shown, by the names of their variables, in URLs, and in commands, of which very long ones are cut.
func TestShownTexts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"PATH=/bin": "PATH=/bin", "API_TOKEN=hunter2": "API_TOKEN=(hidden)", "API_TOKEN=": "API_TOKEN=", "URL=https://u:hunter2@h/": "URL=https://xxxxx:xxxxx@h/", "odd": "odd",
		"DB=postgres://u:hunter2@h/": "DB=postgres://u:*****@h/", "PGPASSWORD=hunter2": "PGPASSWORD=(hidden)", "GH=ghp_abcdefghijklmnopqrstuvwxyz0123456789": "GH=*****", "A=\u202eb": `A=\u202eb`,
	} {
		if got := hideSecret(text); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	long := shownCommand("RUN é" + strings.Repeat("é", maxCommand))
	if len(long) > maxCommand+len("…") || !strings.HasSuffix(long, "é…") || shownCommand("RUN make") != "RUN make" {
		t.Errorf("%d bytes, %q", len(long), long[len(long)-10:])
	}
	row := newConfigRow(&dockerspec.DockerOCIImage{Config: dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
		Labels: map[string]string{"token": "hunter2", "db": "redis://:hunter2@h"}, Cmd: []string{"x", "--password=hunter2"}, Entrypoint: []string{"curl -u me:hunter2 h"},
	}}})
	if text := fmt.Sprintf("%+v", row); strings.Contains(text, "hunter2") {
		t.Error(text)
	}
	if got := shownCommand("RUN API_TOKEN=hunter2 make https://u:hunter2@h/"); strings.Contains(got, "hunter2") {
		t.Error(got)
	}
}
