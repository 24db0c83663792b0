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

// TestVersionOfTheLinker: what scripts/dist sets comes before what Go recorded.
func TestVersionOfTheLinker(t *testing.T) {
	if String() != "dev" {
		t.Errorf("in a test the version is %q", String())
	}
	t.Cleanup(func() { Version, Commit = "", "" })
	Version, Commit = "v1.2.3", "abc"
	if String() != "v1.2.3" || Revision() != "abc" {
		t.Errorf("%s, %s", String(), Revision())
	}
}

func TestRecordedModule(t *testing.T) {
	info := &debug.BuildInfo{Deps: []*debug.Module{{Path: "a", Version: "v1"}, {Path: "b", Version: "v2.3.4"}}}
	for path, want := range map[string]string{"b": "v2.3.4", "c": "v0"} {
		if got := recordedModule(info, path); got != want {
			t.Errorf("%s: %q, not %q", path, got, want)
		}
	}
	if got := recordedModule(nil, "b"); got != "v0" {
		t.Errorf("without build information: %q", got)
	}
}
