package history

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
)

func name(d digest.Digest) string { return "[" + string(d) + "] COPY" }

// TestCauseText: causes in the user's terms.
func TestCauseText(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Cause{
		"requirements.txt changed":                     {Kind: File, Name: "requirements.txt", Change: Content, Old: "sha256:a", New: "sha256:b"},
		"a.go added":                                   {Kind: File, Name: "a.go", Change: Added},
		"a.go removed":                                 {Kind: File, Name: "a.go", Change: Removed},
		"mode of entrypoint.sh 644 → 755":              {Kind: File, Name: "entrypoint.sh", Change: Mode, Old: "644", New: "755"},
		"owner of a 0:0 → 1:1":                         {Kind: File, Name: "a", Change: Owner, Old: "0:0", New: "1:1"},
		"type of a file → directory":                   {Kind: File, Name: "a", Change: Type, Old: "file", New: "directory"},
		"link of l a → b":                              {Kind: File, Name: "l", Change: Link, Old: "a", New: "b"},
		"extended attributes of a changed":             {Kind: File, Name: "a", Change: Xattrs},
		"out/app of [s] COPY changed":                  {Kind: File, Name: "out/app", Change: Content, Step: "s"},
		`build argument VERSION: "1" → "2"`:            {Kind: Argument, Name: "VERSION", Old: "1", New: "2"},
		`build argument VERSION: set to "2"`:           {Kind: Argument, Name: "VERSION", New: "2"},
		"build argument VERSION: no longer set":        {Kind: Argument, Name: "VERSION", Old: "1"},
		`environment PATH: "/bin" → "/usr/bin"`:        {Kind: Environment, Name: "PATH", Old: "/bin", New: "/usr/bin"},
		"ignore file changed: a is left out":           {Kind: Ignore, Name: "a", Change: Removed},
		"ignore file changed: a is no longer left out": {Kind: Ignore, Name: "a", Change: Added},
		"base image debian:12 changed (2 layers)":      {Kind: Base, Name: "debian:12", Change: "2 layers"},
		"base image debian:11 → debian:12":             {Kind: Base, Name: "debian:12", Old: "debian:11", New: "debian:12"},
		"https://example.com/a changed":                {Kind: Remote, Name: "https://example.com/a", Old: "x", New: "y"},
		"the instruction changed":                      {Kind: Command},
		`user: "1" → "2"`:                              {Kind: Option, Name: "user", Old: "1", New: "2"},
		"the credentials of a URL changed":             {Kind: Option, Name: "the credentials of a URL"},
		"platform: linux/amd64 → linux/arm64":          {Kind: Platform, Old: "linux/amd64", New: "linux/arm64"},
		"[s] COPY gave another result":                 {Kind: Result, Step: "s"},
		"new step [1/2] RUN x":                         {Kind: Inserted, Name: "[1/2] RUN x"},
		"step [1/2] RUN x was removed":                 {Kind: Deleted, Name: "[1/2] RUN x"},
		"the cache is not used for it (--no-cache)":    {Kind: NoCache},
		"its record was pruned from the build cache":   {Kind: Pruned},
		"its layers are no longer in the store":        {Kind: Gone},
		"it failed the last time":                      {Kind: Failure},
		"what is known":                                {Kind: Unknown, Name: "what is known"},
		`environment A: "` + long(39) + `…" → "b"`:     {Kind: Environment, Name: "A", Old: long(50), New: "b"},
	} {
		if got := c.Text(name); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
}

func long(n int) string { return fmt.Sprintf("%0*d", n, 0) }

func files(change string, names ...string) (list []Cause) {
	for _, n := range names {
		list = append(list, Cause{Kind: File, Name: n, Change: change})
	}
	return list
}

// TestSummary: files with the same change are counted, in the directory that they share.
func TestSummary(t *testing.T) {
	t.Parallel()
	for want, causes := range map[string][]Cause{
		"":          nil,
		"a changed": files(Content, "a"),
		"3 files in src/ changed: a.go, b.go, c.go":      files(Content, "src/a.go", "src/b.go", "src/c.go"),
		"5 files in src/ changed: a.go, b.go, x/c.go, …": files(Content, "src/a.go", "src/b.go", "src/x/c.go", "src/d", "src/e"),
		"2 files changed: a, src/b":                      files(Content, "a", "src/b"),
		"2 files added: a, b, c changed":                 append(files(Added, "a", "b"), files(Content, "c")...),
		"2 files in d/ left out by the changed ignore file: a, b": {
			{Kind: Ignore, Name: "d/a", Change: Removed}, {Kind: Ignore, Name: "d/b", Change: Removed},
		},
		"2 files in out/ of [s] COPY changed: a, b": {
			{Kind: File, Name: "out/a", Change: Content, Step: "s"}, {Kind: File, Name: "out/b", Change: Content, Step: "s"},
		},
		"mode of a 644 → 755, mode of b 644 → 755": {
			{Kind: File, Name: "a", Change: Mode, Old: "644", New: "755"}, {Kind: File, Name: "b", Change: Mode, Old: "644", New: "755"},
		},
		"a added, b removed, c changed, 2 more": append(append(append(files(Added, "a"), files(Removed, "b")...), files(Content, "c")...),
			Cause{Kind: Command}, Cause{Kind: Option, Name: "user", Old: "1", New: "2"}),
	} {
		if got := Summary(causes, name); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
