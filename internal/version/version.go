// Package version is the version of this binary.
package version

import (
	"cmp"
	"runtime/debug"
)

// Version is set by scripts/dist through the linker. It is empty in a binary that make, go build or go install made, whose build
// information has it.
var Version string

// Commit is set by scripts/dist through the linker, like Version.
var Commit string

// String returns the version of this binary, "dev" if it is unknown.
func String() string {
	if Version != "" {
		return Version
	}
	info, _ := debug.ReadBuildInfo()
	return recordedVersion(info)
}

// Revision returns the commit that this binary was made of, "" if it is unknown.
func Revision() string {
	info, _ := debug.ReadBuildInfo()
	return cmp.Or(Commit, recordedCommit(info))
}

// recordedVersion returns the version of the main module: the one that go install was asked for, or the tag or pseudo-version
// of the checkout that go build ran in. It is "dev" where Go recorded none: go run, go test, -buildvcs=false.
func recordedVersion(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "dev"
	}
	return info.Main.Version
}

// recordedCommit returns the commit of the checkout that go build ran in, or "".
func recordedCommit(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// buildKit is the module whose Dockerfile front end and protocols this binary has.
const buildKit = "github.com/moby/buildkit"

// BuildKit returns the version of BuildKit that this binary was linked with, "v0" if it is unknown.
func BuildKit() string {
	info, _ := debug.ReadBuildInfo()
	return recordedModule(info, buildKit)
}

func recordedModule(info *debug.BuildInfo, path string) string {
	if info != nil {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "v0"
}

// BuildUserAgent names mica to the servers whose files builds download. Some of them know builds by BuildKit's name.
func BuildUserAgent() string { return "mica/" + String() + " buildkit/" + BuildKit() }
