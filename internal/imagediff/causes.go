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
	MediaTypes    Cause = "media-types"
	Layering      Cause = "layering"
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
	{Encoding, "form of the tar of a layer: header format, padding, names of users, entries that are there twice", "use one builder, in one version", nil},
	{Compression, "compression of layers: their content is the same", "use one compression and level", nil},
	{MediaTypes, "media type of the manifest: Docker's or OCI's", "push with one tool, or build with --output type=image,oci-mediatypes=true", nil},
	{Layering, "layers: all together have the same files", "build with one Dockerfile and one builder", nil},
	{Bytecode, "compiled Python files, with the times of their sources", "set PYTHONDONTWRITEBYTECODE=1, or compile with --invalidation-mode checked-hash", []string{"*.pyc", "*.pyo", "__pycache__"}},
	{ArchiveTimes, "times in gzip and zip files, jars too: their content is the same", "compress with gzip -n, zip after touch -d @$SOURCE_DATE_EPOCH, set project.build.outputTimestamp in Maven", nil},
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
	ctx      context.Context
	images   [2]*inspect.Image
	contents [2]*contents
	paths    map[Cause]matcher
	counts   map[Cause]*CauseCount
}

// findCauses adds to a report the causes of its differences.
func findCauses(ctx context.Context, a, b *inspect.Image, r *Report) error {
	c := &classifier{ctx: ctx, images: [2]*inspect.Image{a, b}, contents: r.contents, paths: map[Cause]matcher{}, counts: map[Cause]*CauseCount{}}
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
		for i := range r.Config.Changes {
			change := &r.Config.Changes[i]
			change.Cause = timesIf(change.isTime())
			c.count(change.Cause, strings.TrimSpace("config "+change.Field+" "+change.Key))
		}
	}
	if r.History != nil {
		for i := range r.History.Changes {
			change := &r.History.Changes[i]
			change.Cause = timesIf(slices.Equal(change.Fields, []string{fieldCreated}))
			c.count(change.Cause, "history "+cmp.Or(change.New, change.Old).step())
		}
	}
	if r.Layers != nil {
		if err := c.layers(r); err != nil {
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

func timesIf(only bool) Cause {
	if only {
		return Times
	}
	return Unexplained
}

// layers finds why layers differ. Where the files in them differ, the files have the causes.
func (c *classifier) layers(r *Report) error {
	for _, l := range r.Layers.Layers {
		if l.OtherBlob != "" {
			c.count(Compression, "layer "+l.DiffID.String())
		}
	}
	a, b := c.images[0], c.images[1]
	if a.Target.MediaType != b.Target.MediaType {
		c.count(MediaTypes, a.Target.MediaType+" and "+b.Target.MediaType)
	}
	rest := r.Layers.Removed.Count + r.Layers.Added.Count
	if len(a.Layers) == len(b.Layers) { // else it is not known which of them belong together
		for i := range a.Layers {
			cause, err := c.layer(a.Layers[i], b.Layers[i])
			if err != nil {
				return err
			}
			if cause != "" {
				c.count(cause, fmt.Sprintf("layer %d", i+1))
				rest -= 2
			}
		}
	}
	switch {
	case rest <= 0:
	case r.Files == nil:
		c.count(Unexplained, "layers")
	case len(r.Files.Changes) == 0:
		c.count(Layering, fmt.Sprintf("%d and %d layers", len(a.Layers), len(b.Layers)))
	}
	return nil
}

// layer finds why two layers in the same place differ, although their files do not; "" if those do, or the layers are the same.
func (c *classifier) layer(a, b *inspect.Layer) (Cause, error) {
	if a.DiffID == b.DiffID {
		return "", nil
	}
	var tables [2]*toc.Table
	for n, l := range []*inspect.Layer{a, b} {
		err := l.AddDigests(c.ctx)
		if err == nil {
			tables[n], err = l.Table(c.ctx)
		}
		if err != nil {
			return "", err
		}
	}
	switch inOrder, equal := sameOrder(tables[0], tables[1]); {
	case !inOrder:
		return Order, nil
	case equal:
		return Encoding, nil
	}
	return "", nil
}

// sameOrder reports whether two layers list the paths that both have in the same order, and whether all of their entries are equal.
func sameOrder(a, b *toc.Table) (inOrder, equal bool) {
	common := func(list, other []*view.Entry) (paths []string) {
		there := make(map[string]bool, len(other))
		for _, e := range other {
			there[e.Path] = true
		}
		for _, e := range list {
			if there[e.Path] {
				paths = append(paths, e.Path)
			}
		}
		return paths
	}
	inOrder = slices.Equal(common(a.Entries, b.Entries), common(b.Entries, a.Entries))
	return inOrder, inOrder && slices.EqualFunc(a.Entries, b.Entries, sameEntry)
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
	if change.Change != Changed {
		return Unexplained, nil
	}
	return c.content(change, path)
}
