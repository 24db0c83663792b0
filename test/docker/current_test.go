//go:build e2e

package docker

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// current is set by make docker29 to the store of the engine 29 that mica is compared with; without it, the engine is Debian's of 20.10. mica
// follows 29 where the two differ.
var current = os.Getenv("MICA_TEST_DOCKER29")

func start(dir string) (*rig.Docker, error) {
	switch current {
	case "":
		return rig.StartDocker(dir)
	case "graphdriver":
		return rig.StartDocker29(dir, rig.GraphDriver)
	}
	return rig.StartDocker29(dir, rig.ImageStore)
}

// onlyToday skips a test of what Docker 29 does in another way than 20.10.
func onlyToday(t *testing.T) {
	t.Helper()
	if current == "" {
		t.Skip("Docker 20.10 differs: make docker29 compares")
	}
}

// sameIDs skips a test of IDs and sizes with containerd's image store, where they are those of manifests and of compressed layers, too.
func sameIDs(t *testing.T) {
	t.Helper()
	if current == "imagestore" {
		t.Skip("IDs and sizes are others in containerd's image store")
	}
}

// today returns the arguments by which mica does what the engine does: since 29, images without a tag are listed with -a alone.
func today(args []string) []string {
	if current == "" && (args[0] == "images" || len(args) == 2 && strings.HasPrefix(args[1], "l")) {
		return append(slices.Clone(args), "-a")
	}
	return args
}

// virtualSize is a field of `{{json .}}` that Docker has given up since 20.10.
var virtualSize = regexp.MustCompile(`,"VirtualSize":"[^"]*"`)

// fieldsOfToday is what Docker 29 prints as JSON where the engine prints s: it counts containers, and knows one size of an image.
func fieldsOfToday(s string) string {
	if current == "" {
		return strings.ReplaceAll(virtualSize.ReplaceAllString(s, ""), `"Containers":"N/A"`, `"Containers":"0"`)
	}
	return s
}

// rewordings are what Docker 29 says in other words than 20.10.
var rewordings = strings.NewReplacer(
	"Error: No such object", "error: no such object",
	"Error parsing reference:", "error parsing reference:",
	"Invalid filter", "invalid filter",
	"Invalid IPC mode", "invalid IPC mode",
	"Invalid signal", "invalid signal",
	"Range of CPUs", "range of CPUs",
	"WARNING: Disabling the OOM killer on containers without setting a '-m/--memory' limit may be dangerous.\n", "",
)

// inWordsOfToday is what Docker 29 says, and mica, where the engine says s.
func inWordsOfToday(s string) string {
	if current == "" {
		return rewordings.Replace(s)
	}
	return s
}
