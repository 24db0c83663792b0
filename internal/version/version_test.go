package version

import (
	"runtime/debug"
	"testing"
)

func TestRecordedVersion(t *testing.T) {
	revision := []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "3a5d582"}}
	for name, tc := range map[string]struct {
		info            *debug.BuildInfo
		version, commit string
	}{
		"no build information":       {nil, "dev", ""},
		"go test":                    {&debug.BuildInfo{}, "dev", ""},
		"go build -buildvcs=false":   {&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "dev", ""},
		"go install mica@v0.1.0":     {&debug.BuildInfo{Main: debug.Module{Version: "v0.1.0"}}, "v0.1.0", ""},
		"go build in a tagged clone": {&debug.BuildInfo{Main: debug.Module{Version: "v0.1.0+dirty"}, Settings: revision}, "v0.1.0+dirty", "3a5d582"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := recordedVersion(tc.info); got != tc.version {
				t.Errorf("version %q, not %q", got, tc.version)
			}
			if got := recordedCommit(tc.info); got != tc.commit {
				t.Errorf("commit %q, not %q", got, tc.commit)
			}
		})
	}
}
