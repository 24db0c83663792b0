package buildcmd

import (
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/buildspec"
)

// TestCheckOnJob: options that no Job can be made of are refused before the build begins.
func TestCheckOnJob(t *testing.T) {
	t.Parallel()
	for want, job := range map[string]buildspec.OnJob{
		"":                  {Image: "mica"},
		"add image=":        {},
		"invalid isolation": {Image: "mica", Isolation: "none"},
		"no such file":      {Image: "mica", Template: "/no/template"},
	} {
		err := checkOn(&buildspec.Spec{On: &buildspec.On{Engine: buildspec.Kubernetes, Job: job}}, nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
