package history

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"
)

// Kind says what a cause is about.
type Kind string

// The kinds of causes.
const (
	File        Kind = "file"        // Name is its path, Change what changed
	Argument    Kind = "argument"    // a build argument
	Environment Kind = "environment" // a variable of the environment
	Ignore      Kind = "ignore"      // Name is a path that the ignore file leaves out, or no longer does
	Base        Kind = "base"        // an image that the build starts from
	Remote      Kind = "remote"      // a file or repository that was downloaded
	Command     Kind = "command"     // the instruction itself
	Option      Kind = "option"      // Name is an option of the instruction or the build
	Platform    Kind = "platform"
	Result      Kind = "step"     // Step is another step, whose result is not the same
	Inserted    Kind = "inserted" // Step is a step that the Dockerfile did not have
	Deleted     Kind = "deleted"  // Name is a step that the Dockerfile no longer has
	After       Kind = "after"    // Step is a step whose result is not known, in a build that is only planned
	NoCache     Kind = "no-cache"
	Pruned      Kind = "pruned"  // the record is no longer in the build cache
	Gone        Kind = "gone"    // the record is there, its layers are not
	Lost        Kind = "lost"    // a remote cache had the result, and no longer has all of its layers
	Failure     Kind = "failure" // it failed the last time
	Stopped     Kind = "stopped" // it was canceled the last time
	Unknown     Kind = "unknown" // what is known is in Name

	// Of a remote cache, which has digests of definitions and contents alone.
	NoStep        Kind = "no-step"        // no step there has the definition
	OtherPlatform Kind = "other-platform" // the step is there for the platform Old
	OtherInput    Kind = "other-input"    // the step is there without the input Name or Step; Change says which kind of input that is
	NoResult      Kind = "no-result"      // the step is there without its result
	NoLayers      Kind = "no-layers"      // layers of the result are not there
	LostLayers    Kind = "lost-layers"    // layers of the result were there, and are gone
	NoRecord      Kind = "no-record"      // a cache of single steps has no result of the step with these inputs
)

// The kinds of inputs that a remote cache has others of.
const (
	OfFiles  = "files"  // a directory of the host
	OfBase   = "base"   // an image
	OfRemote = "remote" // a download
	OfStep   = "step"   // a step that the cache has, elsewhere
	OfNoStep = "no-step"
)

// The changes of files.
const (
	Added   = "added"
	Removed = "removed"
	Content = "content"
	Mode    = "mode"
	Owner   = "owner"
	Type    = "type"
	Link    = "link"
	Xattrs  = "xattrs"
)

// Cause is one reason why a step ran again.
type Cause struct {
	Kind   Kind   `json:"kind"`
	Name   string `json:"name,omitempty"`
	Change string `json:"change,omitempty"`
	Old    string `json:"old,omitempty"`
	New    string `json:"new,omitempty"`
	// Step is the step that the file or layers come from, "" if that is not a step.
	Step digest.Digest `json:"step,omitempty"`
	// OldSize and NewSize are the sizes of a file, in bytes.
	OldSize int64 `json:"oldSize,omitempty"`
	NewSize int64 `json:"newSize,omitempty"`
}

// maxValue is how much of a value a text shows, in runes.
const maxValue = 40

func quote(s string) string {
	if r := []rune(s); len(r) > maxValue {
		s = string(r[:maxValue-1]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// printable quotes a name that would print more than a line.
func printable(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return strconv.Quote(s)
	}
	return s
}

// change is ": from → to", for values of which one may be missing, and " changed" for two that are the same or not shown.
func (c Cause) change() string {
	switch {
	case c.Old == c.New:
		return " changed"
	case c.Old == "":
		return ": set to " + quote(c.New)
	case c.New == "":
		return ": no longer set"
	}
	return ": " + quote(c.Old) + " → " + quote(c.New)
}

// Text says the cause in a few words. name gives the name of another step.
func (c Cause) Text(name func(digest.Digest) string) string {
	c.Name = printable(c.Name)
	switch c.Kind {
	case File:
		return c.file(name)
	case Argument:
		return "build argument " + c.Name + c.change()
	case Environment:
		return "environment " + c.Name + c.change()
	case Ignore:
		if c.Change == Removed {
			return "ignore file changed: " + c.Name + " is left out"
		}
		return "ignore file changed: " + c.Name + " is no longer left out"
	case Base:
		return c.base()
	case Remote:
		return c.Name + " changed"
	case Command:
		return "the instruction changed"
	case Option:
		return c.Name + c.change()
	case Platform:
		return "platform: " + printable(c.Old) + " → " + printable(c.New)
	case Result:
		return name(c.Step) + " gave another result"
	case Inserted:
		return "new step " + c.Name
	case Deleted:
		return "step " + c.Name + " was removed"
	case After:
		return "after " + name(c.Step)
	case NoCache:
		return "the cache is not used for it (--no-cache)"
	case Pruned:
		return "its record" + c.ofBuild() + " was pruned from the build cache"
	case Gone:
		return "its layers" + c.ofBuild() + " are no longer in the store"
	case Lost:
		return "its result came from a cache that no longer has its layers"
	case Stopped:
		return "it was canceled the last time"
	case Failure:
		return "it failed the last time"
	case NoStep, OtherPlatform, OtherInput, NoResult, NoLayers, LostLayers, NoRecord:
		return c.remote(name)
	}
	return c.Name
}

func (c Cause) file(name func(digest.Digest) string) string {
	at := c.Name
	if c.Step != "" {
		at += " of " + name(c.Step)
	}
	switch c.Change {
	case Content:
		return at + " changed"
	case Added, Removed:
		return at + " " + c.Change
	case Xattrs:
		return "extended attributes of " + at + " changed"
	}
	return c.Change + " of " + at + " " + printable(c.Old) + " → " + printable(c.New)
}

// ofBuild names the build that a result was of, if that is not the one before.
func (c Cause) ofBuild() string {
	if c.Name == "" {
		return ""
	}
	return " of build " + c.Name
}

// remote says what a remote cache has in place of the result.
func (c Cause) remote(name func(digest.Digest) string) string {
	switch c.Kind {
	case NoStep:
		return "no step in it has this definition"
	case OtherPlatform:
		return "it has the step for " + c.Old
	case NoResult:
		return "it has the step without its result, as with mode=min"
	case NoLayers:
		return "it has the step, but not all layers of its result"
	case LostLayers:
		return "it names the result of the step, but layers of that are gone"
	case NoRecord:
		return "it has no record of this step with what it reads here"
	}
	switch c.Change {
	case OfFiles:
		return "it has the step with other files of " + c.Name
	case OfBase:
		return "it has the step, not on the base image " + c.Name
	case OfRemote:
		return "it has the step with another content of " + c.Name
	case OfNoStep:
		return "it does not have " + name(c.Step)
	}
	return "it has the step, not with " + name(c.Step)
}

func (c Cause) base() string {
	if c.Old != c.New {
		return "base image " + printable(c.Old) + " → " + printable(c.New)
	}
	text := "base image " + c.Name + " changed"
	if c.Change != "" {
		text += " (" + c.Change + ")"
	}
	return text
}

// shown is how many files a summary names.
const shown = 3

// Summary says all causes in one line. Files with the same change are counted, and the first of them named.
func Summary(causes []Cause, name func(digest.Digest) string) string {
	var parts []string
	type group struct {
		kind         Kind
		change, step string
	}
	groups := map[group][]Cause{}
	key := func(c Cause) (group, bool) {
		grouped := c.Kind == Ignore || c.Kind == File && (c.Change == Added || c.Change == Removed || c.Change == Content)
		return group{c.Kind, c.Change, string(c.Step)}, grouped
	}
	for _, c := range causes {
		if g, ok := key(c); ok {
			groups[g] = append(groups[g], c)
		}
	}
	for _, c := range causes {
		g, grouped := key(c)
		list := groups[g]
		if !grouped || len(list) == 1 {
			parts = append(parts, c.Text(name))
			continue
		}
		if len(list) > 1 {
			parts = append(parts, several(list, name))
			delete(groups, g)
		}
	}
	if n := len(parts) - shown; n > 1 {
		parts = append(parts[:shown], fmt.Sprintf("%d more", n))
	}
	return strings.Join(parts, ", ")
}

// several is "3 files in src/ changed: a.go, b.go, c.go".
func several(list []Cause, name func(digest.Digest) string) string {
	dir := commonDir(list)
	var names []string
	for _, c := range list[:min(len(list), shown)] {
		names = append(names, printable(strings.TrimPrefix(c.Name, dir)))
	}
	if len(list) > shown {
		names = append(names, "…")
	}
	text := fmt.Sprintf("%d files", len(list))
	if dir != "" && dir != "/" {
		text += " in " + dir
	}
	if list[0].Step != "" {
		text += " of " + name(list[0].Step)
	}
	verb := list[0].Change
	switch {
	case list[0].Kind == Ignore && verb == Removed:
		verb = "left out by the changed ignore file"
	case list[0].Kind == Ignore:
		verb = "no longer left out by the changed ignore file"
	case verb == Content:
		verb = "changed"
	}
	return text + " " + verb + ": " + strings.Join(names, ", ")
}

// commonDir is the directory that all names begin with, with its slash; "" for none.
func commonDir(list []Cause) string {
	common := strings.Split(path.Dir(list[0].Name), "/")
	for _, c := range list[1:] {
		parts := strings.Split(path.Dir(c.Name), "/")
		n := 0
		for n < len(common) && n < len(parts) && common[n] == parts[n] {
			n++
		}
		common = common[:n]
	}
	if dir := strings.Join(slices.DeleteFunc(common, func(s string) bool { return s == "." }), "/"); dir != "" {
		return dir + "/"
	}
	return ""
}
