package imagecmd

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/image"
)

// names are the names of the images of a store, sorted.
func (f *fixture) names(t *testing.T) string {
	t.Helper()
	images, err := f.Images.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, img := range images {
		all = append(all, img.Names...)
		if len(img.Names) == 0 {
			all = append(all, "<none>")
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// step is a command, what it prints, and the names that are left.
type step struct {
	new  func(*command.App) *cobra.Command
	args string
	outcome
	names string
}

// run runs commands one after the other.
func (f *fixture) run(t *testing.T, steps []step) {
	t.Helper()
	for _, s := range steps {
		f.test(t, s.new, map[string]outcome{s.args: s.outcome})
		if got := f.names(t); got != s.names {
			t.Errorf("after %q the names are %q, want %q", s.args, got, s.names)
		}
	}
}

func TestTag(t *testing.T) {
	t.Parallel()
	const before = "<none> app:1 registry.test/x/app:2"
	newFixture(t).run(t, []step{
		{NewTagCommand, "nosuch b", outcome{err: "No such image: nosuch:latest"}, before},
		{NewTagCommand, "app:1 B", outcome{err: `error parsing reference: "B" is not a valid repository/tag: invalid reference format: repository name (library/B) must be lowercase`}, before},
		{NewTagCommand, "app:1 b@c", outcome{err: `error parsing reference: "b@c" is not a valid repository/tag: invalid reference format`}, before},
		{NewTagCommand, "A b", outcome{err: `error parsing reference: "A" is not a valid repository/tag: invalid reference format: repository name (library/A) must be lowercase`}, before},
		{NewTagCommand, "$BARE bare", outcome{}, "app:1 bare:latest registry.test/x/app:2"},
		{NewTagCommand, "app:1 docker.io/library/bare:latest", outcome{}, "<none> app:1 bare:latest registry.test/x/app:2"},
		{NewTagCommand, "bare localhost:5000/a/b", outcome{}, "<none> app:1 bare:latest localhost:5000/a/b:latest registry.test/x/app:2"},
	})
}

func TestRmi(t *testing.T) {
	t.Parallel()
	const both, app = "<none> app:1 registry.test/x/app:2", "app:1 registry.test/x/app:2"
	f := newFixture(t)
	f.run(t, []step{
		{NewRmiCommand, "nosuch", outcome{err: "No such image: nosuch:latest"}, both},
		{NewRmiCommand, "$APP", outcome{err: "conflict: unable to delete $APP (must be forced) - image is referenced in multiple repositories"}, both},
		{NewRmiCommand, "--force nosuch", outcome{stderr: "Error: No such image: nosuch:latest\n"}, both},
		{NewRmiCommand, "$BARE nosuch", outcome{out: "Deleted: $FULLBARE\n", err: "No such image: nosuch:latest"}, app},
		{NewRmiCommand, "app:1", outcome{out: "Untagged: app:1\n"}, "registry.test/x/app:2"},
		{NewTagCommand, "registry.test/x/app:2 c", outcome{}, "c:latest registry.test/x/app:2"},
	})
	chain := f.app.Chain()
	f.run(t, []step{{
		NewRmiCommand, "-f $APP",
		outcome{out: "Untagged: c:latest\nUntagged: registry.test/x/app:2\nDeleted: $FULLAPP\n" + "Deleted: " + chainID(t, f.app) + "\nDeleted: $FULLA\n"}, "",
	}})
	for _, id := range chain {
		if _, err := f.Layers.Get(id); err == nil {
			t.Errorf("layer %s is still there", id)
		}
	}
}

// chainID is docker's name for the layers of an image (image-spec, "Layer ChainID").
func chainID(t *testing.T, img *image.Image) string {
	t.Helper()
	id := img.Chain()[0]
	for _, next := range img.Chain()[1:] {
		id = id.Algorithm().FromString(id.String() + " " + next.String())
	}
	return id.String()
}

func TestImagePrune(t *testing.T) {
	t.Parallel()
	const question = "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
	for name, c := range map[string]struct {
		args, stdin string
		want        []string // the beginning of stdout
		left, err   string
	}{
		"no":        {stdin: "n\n", want: []string{question}, left: "<none> app:1 registry.test/x/app:2"},
		"no answer": {want: []string{question}, left: "<none> app:1 registry.test/x/app:2"},
		"yes":       {stdin: "Y\n", want: []string{question + "Deleted Images:\ndeleted: $FULLBARE\n\nTotal reclaimed space: "}, left: "app:1 registry.test/x/app:2"},
		"force":     {args: "-f", want: []string{"Deleted Images:\ndeleted: $FULLBARE\n\nTotal reclaimed space: "}, left: "app:1 registry.test/x/app:2"},
		"all": {args: "-a", stdin: "y\n", want: []string{
			"WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue? [y/N] Deleted Images:\n",
			"untagged: app:1\nuntagged: registry.test/x/app:2\ndeleted: $FULLAPP\n", "deleted: $FULLBARE\n", "\nTotal reclaimed space: ",
		}},
		"label":          {args: "-a -f --filter label=k", want: []string{"Deleted Images:\nuntagged: app:1\n"}, left: "<none>"},
		"label, none":    {args: "-f --filter label=k", want: []string{"Total reclaimed space: 0B\n"}, left: "<none> app:1 registry.test/x/app:2"},
		"no label":       {args: "-a -f --filter label!=k", want: []string{"Deleted Images:\ndeleted: $FULLBARE\n"}, left: "app:1 registry.test/x/app:2"},
		"until":          {args: "-a -f --filter until=2019-01-01", want: []string{"Total reclaimed space: 0B\n"}, left: "<none> app:1 registry.test/x/app:2"},
		"unknown filter": {args: "-f --filter reference=app", err: "invalid filter 'reference'", left: "<none> app:1 registry.test/x/app:2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			got := f.RunWith(t.Context(), strings.NewReader(c.stdin), NewImagePruneCommand, strings.Fields(c.args)...)
			if commandtest.Text(got.Err) != c.err {
				t.Errorf("%v, want %q", got.Err, c.err)
			}
			for i, want := range c.want {
				if i == 0 && !strings.HasPrefix(got.Stdout, f.ids(want)) || !strings.Contains(got.Stdout, f.ids(want)) {
					t.Errorf("stdout %q, want %q", got.Stdout, f.ids(want))
				}
			}
			if left := f.names(t); left != c.left {
				t.Errorf("%q are left, want %q", left, c.left)
			}
		})
	}
}
