package imagediff

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// Cause is why two builds of the same thing differ.
type Cause string

// The causes, in the order of a report.
const (
	Times         Cause = "times"
	Order         Cause = "order"
	Encoding      Cause = "encoding"
	Compression   Cause = "compression"
	Bytecode      Cause = "bytecode"
	ArchiveTimes  Cause = "archive-times"
	PasswordDates Cause = "password-dates"
	Identity      Cause = "identity"
	Packages      Cause = "package-database"
	Logs          Cause = "logs"
	Caches        Cause = "caches"
	Temporary     Cause = "temporary"
	Unexplained   Cause = "unexplained"
)

// causes describe the causes. paths are the files that differ for a cause in any build, whatever is in them.
var causes = []struct {
	cause  Cause
	text   string
	advice string
	paths  []string
}{
	{Times, "times of files, of the config and of lines of history", "set SOURCE_DATE_EPOCH, and build with --output type=image,rewrite-timestamp=true", nil},
	{Order, "order of the files in the tar of a layer", "sort the input of tar, or use one builder", nil},
	{Encoding, "form of the tar of a layer: header format, padding, names of users", "use one builder, in one version", nil},
	{Compression, "compression of layers: their content is the same", "use one compression and level", nil},
	{Bytecode, "compiled Python files, with the times of their sources", "set PYTHONDONTWRITEBYTECODE=1, or compile with --invalidation-mode checked-hash", []string{"*.pyc", "*.pyo"}},
	{ArchiveTimes, "times in gzip files: their content is the same", "compress with gzip -n", nil},
	{PasswordDates, "dates of password changes", "remove /etc/shadow-, or set the dates with chage -d", nil},
	{Identity, "keys and identities that are made at random", "remove them in the build: each host should make its own",
		[]string{"/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/ssh/ssh_host_*", "/var/lib/systemd/random-seed", "/etc/hostid"}},
	{Packages, "databases of package managers", "install the same versions from a snapshot of the repository",
		[]string{"/var/lib/dpkg", "/var/lib/apt", "/lib/apk/db", "/var/lib/rpm", "/usr/lib/sysimage/rpm", "/var/lib/dnf", "/var/lib/yum", "/etc/apk/world"}},
	{Logs, "logs", "remove them in the step that writes them", []string{"/var/log", "*.log"}},
	{Caches, "caches", "use RUN --mount=type=cache, or remove them in the step that writes them",
		[]string{"/etc/ld.so.cache", "/var/cache", "/root/.cache", "/root/.npm", "/usr/lib/locale/locale-archive", "/usr/share/mime/mime.cache", "icon-theme.cache"}},
	{Temporary, "temporary files", "use RUN --mount=type=tmpfs, or remove them", []string{"/tmp", "/var/tmp", "/run"}},
	{Unexplained, "not explained", "", nil},
}

// CausesReport says for each cause how many differences have it.
type CausesReport struct {
	Causes []CauseCount `json:"causes"`
	// Unexplained is how many differences have none.
	Unexplained int `json:"unexplained"`
}

// CauseCount is how many differences have a cause, and what they are of.
type CauseCount struct {
	Cause    Cause    `json:"cause"`
	Text     string   `json:"text"`
	Advice   string   `json:"advice,omitempty"`
	Count    int      `json:"count"`
	Examples []string `json:"examples"`
}

// maxExamples bounds CauseCount.Examples.
const maxExamples = 5

// classifier finds the causes of differences.
type classifier struct {
	ctx    context.Context
	images [2]*inspect.Image
	paths  map[Cause]matcher
	counts map[Cause]*CauseCount
}

// findCauses adds to a report the causes of its differences.
func findCauses(ctx context.Context, a, b *inspect.Image, r *Report) error {
	c := &classifier{ctx: ctx, images: [2]*inspect.Image{a, b}, paths: map[Cause]matcher{}, counts: map[Cause]*CauseCount{}}
	for _, known := range causes {
		m, err := newMatcher(known.paths)
		if err != nil {
			return err
		}
		c.paths[known.cause] = m
		c.counts[known.cause] = &CauseCount{Cause: known.cause, Text: known.text, Advice: known.advice}
	}
	if err := c.classify(r); err != nil {
		return err
	}
	r.Causes = &CausesReport{Causes: []CauseCount{}, Unexplained: c.counts[Unexplained].Count}
	for _, known := range causes {
		if n := c.counts[known.cause]; n.Count > 0 {
			r.Causes.Causes = append(r.Causes.Causes, *n)
		}
	}
	return nil
}

func (c *classifier) count(cause Cause, example string) {
	n := c.counts[cause]
	n.Count++
	if len(n.Examples) < maxExamples {
		n.Examples = append(n.Examples, example)
	}
}

func (c *classifier) classify(r *Report) error {
	if r.Config != nil {
		for _, change := range r.Config.Changes {
			cause := Unexplained
			if change.Field == "created" || change.Key == "org.opencontainers.image.created" {
				cause = Times
			}
			c.count(cause, strings.TrimSpace("config "+change.Field+" "+change.Key))
		}
	}
	if r.History != nil {
		for _, change := range r.History.Changes {
			cause := Unexplained
			if change.Change == Changed {
				cause = Times
			}
			c.count(cause, "history "+cmp.Or(change.New, change.Old).CreatedBy)
		}
	}
	if r.Layers != nil {
		if err := c.layers(r.Layers); err != nil {
			return err
		}
	}
	if r.Files != nil {
		for i := range r.Files.Changes {
			change := &r.Files.Changes[i]
			cause, err := c.file(change)
			if err != nil {
				return err
			}
			change.Cause = cause
			c.count(cause, change.Path)
		}
	}
	return nil
}

// layers finds layers that have the same files, and are not the same.
func (c *classifier) layers(r *LayersReport) error {
	for _, l := range r.Layers {
		if l.OtherBlob != "" {
			c.count(Compression, "layer "+l.DiffID.String())
		}
	}
	a, b := c.images[0].Layers, c.images[1].Layers
	if len(a) != len(b) {
		return nil // it is not known which of them belong together
	}
	for i := range a {
		if a[i].DiffID == b[i].DiffID {
			continue
		}
		ta, err := a[i].Table(c.ctx)
		if err != nil {
			return err
		}
		tb, err := b[i].Table(c.ctx)
		if err != nil {
			return err
		}
		switch inOrder, equal := sameOrder(ta, tb); {
		case !inOrder:
			c.count(Order, fmt.Sprintf("layer %d", i+1))
		case equal:
			c.count(Encoding, fmt.Sprintf("layer %d", i+1))
		}
	}
	return nil
}

// sameOrder reports whether two layers list the paths that both have in the same order, and whether all of their entries are equal.
func sameOrder(a, b *toc.Table) (inOrder, equal bool) {
	both := map[string]bool{}
	for _, e := range a.Entries {
		both[e.Path] = true
	}
	var paths []string
	for _, e := range b.Entries {
		if both[e.Path] {
			paths = append(paths, e.Path)
		}
	}
	if len(paths) == len(a.Entries) && len(paths) == len(b.Entries) {
		equal = slices.EqualFunc(a.Entries, b.Entries, sameEntry)
	}
	for _, p := range paths {
		both[p] = false
	}
	for _, e := range a.Entries {
		if both[e.Path] { // not in b
			continue
		}
		if paths[0] != e.Path {
			return false, false
		}
		paths = paths[1:]
	}
	return true, equal
}

func sameEntry(a, b *view.Entry) bool {
	return a.Path == b.Path && a.Type == b.Type && a.Size == b.Size && a.Digest == b.Digest && a.Opaque == b.Opaque && index.SameMetadata(a, b)
}

// file finds the cause of a difference of a file.
func (c *classifier) file(change *FileChange) (Cause, error) {
	for _, a := range change.Aspects {
		if a != Content && a != Time {
			return Unexplained, nil
		}
	}
	if len(change.Aspects) == 1 && change.Aspects[0] == Time {
		return Times, nil
	}
	path := change.Path[1:]
	for _, known := range causes {
		if c.paths[known.cause].match(path) {
			return known.cause, nil
		}
	}
	if change.Change != Changed || max(change.Old.Size, change.New.Size) > maxTextFile {
		return Unexplained, nil
	}
	return c.content(change, path)
}

// content finds the cause of a difference that only the content of a file shows.
func (c *classifier) content(change *FileChange, path string) (Cause, error) {
	for _, known := range []struct {
		cause   Cause
		applies bool
		without func(data []byte) string // without what differs for the cause
	}{
		{ArchiveTimes, change.Old.Size == change.New.Size && strings.HasSuffix(path, "gz"), withoutGzipTime},
		{PasswordDates, path == "etc/shadow" || path == "etc/shadow-", withoutPasswordDates},
	} {
		if !known.applies {
			continue
		}
		var rest [2]string
		for n, img := range c.images {
			v, err := img.View(c.ctx)
			if err != nil {
				return "", err
			}
			data, err := readSmall(c.ctx, v, path)
			if err != nil {
				return "", fmt.Errorf("read %s: %w", change.Path, err)
			}
			rest[n] = known.without(data)
		}
		if rest[0] == rest[1] {
			return known.cause, nil
		}
	}
	return Unexplained, nil
}

// withoutGzipTime is a gzip file without its time (RFC 1952, section 2.3).
func withoutGzipTime(data []byte) string {
	if len(data) < 10 || data[0] != 0x1f || data[1] != 0x8b {
		return string(data)
	}
	return string(data[:4]) + string(data[8:])
}

// withoutPasswordDates is a shadow file without the dates of the last change (shadow(5)).
func withoutPasswordDates(data []byte) string {
	lines := strings.Split(string(data), "\n")
	for i, line := range lines {
		if parts := strings.Split(line, ":"); len(parts) > 2 {
			parts[2] = ""
			lines[i] = strings.Join(parts, ":")
		}
	}
	return strings.Join(lines, "\n")
}
