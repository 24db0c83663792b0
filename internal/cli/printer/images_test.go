package printer

import (
	"bytes"
	"testing"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	imagetypes "github.com/moby/moby/api/types/image"
)

// The table is the one that Docker's formatter writes.
func TestWriteImageTable(t *testing.T) {
	id := "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	now := time.Now().Unix()
	images := []imagetypes.Summary{
		{ID: id, Created: now - 100, Size: 1234, RepoTags: []string{"a:latest"}},
		{ID: id, Created: now - 86400*400, Size: 1_234_567_890, RepoTags: []string{"registry.example.org:5000/a/long-name/of/parts:v1.2.3-rc1"}},
		{ID: id, Created: now - 4000, RepoTags: []string{"localhost:5000/x:1"}, RepoDigests: []string{"localhost:5000/x@" + id}},
		{ID: id, Created: 0, Size: 77, RepoDigests: []string{"localhost:5000/y@" + id}},
		{ID: id, Created: now + 50, Size: 1e6},
		{ID: id, Created: time.Time{}.Unix(), Size: 1e6, RepoTags: []string{"never:1"}},
	}
	for _, trunc := range []bool{true, false} {
		for _, list := range [][]imagetypes.Summary{images, images[:1], nil} {
			var got, want bytes.Buffer
			if err := writeImageTable(&got, list, trunc); err != nil {
				t.Fatal(err)
			}
			docker := formatter.ImageContext{Context: formatter.Context{
				Output: &want, Format: formatter.NewImageFormat(formatter.TableFormatKey, false, false), Trunc: trunc,
			}}
			if err := formatter.ImageWrite(docker, list); err != nil {
				t.Fatal(err)
			}
			if got.String() != want.String() {
				t.Errorf("trunc %t:\n%s\nDocker:\n%s", trunc, got.String(), want.String())
			}
		}
	}
}
