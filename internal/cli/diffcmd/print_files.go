package diffcmd

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/docker/go-units"

	"github.com/micabuild/mica/internal/imagediff"
)

// printFiles prints changes of files. A directory that only one image has is one line, with the number of files in it.
func printFiles(w io.Writer, changes []imagediff.FileChange) {
	for i := 0; i < len(changes); i++ {
		c := &changes[i]
		if c.Change == imagediff.Changed {
			printChanged(w, c)
			continue
		}
		f := onlyFile(c)
		end := i + 1
		size := f.Size
		for f.Type == "dir" && end < len(changes) && changes[end].Change == c.Change && strings.HasPrefix(changes[end].Path, c.Path+"/") {
			size += onlyFile(&changes[end]).Size
			end++
		}
		fmt.Fprintf(w, "  %s %s\n", marks[c.Change], described(c.Path, f, end-i-1, size))
		i = end - 1
	}
}

// onlyFile is the file of a change that only one image has.
func onlyFile(c *imagediff.FileChange) *imagediff.File {
	if c.Change == imagediff.Added {
		return c.New
	}
	return c.Old
}

// described is a path with what ls would say of it.
func described(path string, f *imagediff.File, inside int, size int64) string {
	text := quoted(path)
	switch {
	case f.Type == "dir" && inside > 0:
		return fmt.Sprintf("%s/  %s in it, %s", text, count(inside, "file"), units.HumanSize(float64(size)))
	case f.Type == "dir":
		return text + "/"
	case f.First != "":
		return fmt.Sprintf("%s  hard link to %s", text, quoted(f.First))
	case f.Type == "symlink":
		return fmt.Sprintf("%s → %s", text, quoted(f.Target))
	case f.Type == "file":
		return fmt.Sprintf("%s  %s", text, units.HumanSize(float64(size)))
	}
	return strings.TrimSpace(fmt.Sprintf("%s  %s %s", text, f.Type, f.Device))
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// quoted is a name as it is, or in quotes if it could be taken for something else.
func quoted(name string) string {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r == '"' || unicode.IsSpace(r) }) {
		return strconv.Quote(name)
	}
	return name
}

func printChanged(w io.Writer, c *imagediff.FileChange) {
	var details []string
	for _, a := range c.Aspects {
		details = append(details, aspect(a, c.Old, c.New))
	}
	fmt.Fprintf(w, "  ~ %s  %s\n", quoted(c.Path), strings.Join(details, ", "))
	if c.NoText != "" {
		fmt.Fprintf(w, "      no text: %s\n", c.NoText)
	}
	for line := range strings.Lines(c.Text) {
		fmt.Fprintln(w, "      "+strings.TrimSuffix(line, "\n"))
	}
}

// aspect says how files differ in one aspect.
func aspect(a imagediff.Aspect, old, now *imagediff.File) string {
	switch a {
	case imagediff.Type:
		return fmt.Sprintf("type %s → %s", old.Type, now.Type)
	case imagediff.Content:
		return "content " + sizes(old, now) + " (" + short(old.Digest) + " → " + short(now.Digest) + ")"
	case imagediff.Target:
		return fmt.Sprintf("target %s → %s", quoted(old.Target), quoted(now.Target))
	case imagediff.Device:
		return fmt.Sprintf("device %s → %s", old.Device, now.Device)
	case imagediff.Mode:
		return fmt.Sprintf("mode %s → %s", old.Mode, now.Mode)
	case imagediff.Owner:
		return fmt.Sprintf("owner %d:%d → %d:%d", old.UID, old.GID, now.UID, now.GID)
	case imagediff.Time:
		return fmt.Sprintf("time %s → %s", fileTime(old), fileTime(now))
	case imagediff.Xattrs:
		return "xattrs " + strings.Join(xattrs(old.Xattrs, now.Xattrs), " ")
	}
	return fmt.Sprintf("hard link %s → %s", firstName(old), firstName(now))
}

func sizes(old, now *imagediff.File) string {
	if old.Size == now.Size {
		return fmt.Sprintf("%d B", now.Size)
	}
	return fmt.Sprintf("%d → %d B", old.Size, now.Size)
}

func fileTime(f *imagediff.File) string {
	if f.ModTime == nil {
		return "none"
	}
	return f.ModTime.Format(time.RFC3339Nano)
}

func firstName(f *imagediff.File) string {
	if f.First == "" {
		return "none"
	}
	return "to " + quoted(f.First)
}

// xattrs lists the attributes that differ.
func xattrs(old, now map[string]string) (list []string) {
	for name, value := range old {
		if other, ok := now[name]; !ok {
			list = append(list, "-"+quoted(name))
		} else if other != value {
			list = append(list, "~"+quoted(name))
		}
	}
	for name := range now {
		if _, ok := old[name]; !ok {
			list = append(list, "+"+quoted(name))
		}
	}
	slices.Sort(list)
	return list
}
