package imagecmd

import (
	"strings"
	"testing"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/image"
)

// fixture is a store with two images: app, of two layers and with two names, and bare, without a name.
type fixture struct {
	*commandtest.Mica
	app, bare *image.Image
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	m := commandtest.New(t)
	app := m.Image(describe, map[string]string{"a": "text"}, map[string]string{"b": "more text", "c": ""})
	bare := m.Image(nil, map[string]string{"a": "text"})
	return &fixture{m, m.Tag(app, "app:1", "registry.test/x/app:2"), bare}
}

// describe adds a history and what a process needs to a config.
func describe(c map[string]any) {
	c["config"] = map[string]any{"Labels": map[string]string{"k": "v"}, "Env": []string{"A=1"}, "Cmd": []string{"sh"}}
	step := func(by, comment string, empty bool) map[string]any {
		return map[string]any{"created": commandtest.Created, "created_by": by, "comment": comment, "empty_layer": empty}
	}
	c["history"] = []any{
		step("COPY a / # buildkit", "buildkit.dockerfile.v0", false),
		step("ENV A=1 a very long\tinstruction that is longer than forty-five columns", "", true),
		step("COPY b / # buildkit", "buildkit.dockerfile.v0", false),
	}
}

// ids replaces the IDs of images and layers in an expected text by those of the fixture.
func (f *fixture) ids(text string) string {
	return strings.NewReplacer(
		"$APP", f.app.ShortID(), "$FULLAPP", f.app.ID.String(), "$BARE", f.bare.ShortID(), "$FULLBARE", f.bare.ID.String(),
		"$A", f.app.Chain()[0].Encoded()[:12], "$FULLA", f.app.Chain()[0].String(),
		"$B", f.app.Chain()[1].Encoded()[:12], "$FULLB", f.app.Chain()[1].String(),
	).Replace(text)
}

// test runs commands on one fixture and compares what they print.
func (f *fixture) test(t *testing.T, newCommand func(*command.App) *cobra.Command, cases map[string]outcome) {
	t.Helper()
	for args, want := range cases {
		got := f.Run(newCommand, strings.Fields(f.ids(args))...)
		if diff := cmp.Diff(f.ids(want.out), commandtest.Columns(got.Stdout)); diff != "" {
			t.Errorf("%s: stdout:\n%s", args, diff)
		}
		if err := commandtest.Text(got.Err); err != f.ids(want.err) || got.Stderr != f.ids(want.stderr) {
			t.Errorf("%s: %q, stderr %q, want %q, %q", args, err, got.Stderr, f.ids(want.err), f.ids(want.stderr))
		}
	}
}

// outcome is what a command prints, and its error.
type outcome struct{ out, stderr, err string }

func TestImages(t *testing.T) {
	t.Parallel()
	newFixture(t).test(t, NewImagesCommand, map[string]outcome{
		"": {out: "REPOSITORY  TAG  IMAGE ID  CREATED  SIZE\napp  1  $APP  AGE ago  13B\nregistry.test/x/app  2  $APP  AGE ago  13B\n"},
		"-a": {out: "REPOSITORY  TAG  IMAGE ID  CREATED  SIZE\n" +
			"<none>  <none>  $BARE  AGE ago  4B\napp  1  $APP  AGE ago  13B\nregistry.test/x/app  2  $APP  AGE ago  13B\n"},
		"--no-trunc app:1": {out: "REPOSITORY  TAG  IMAGE ID  CREATED  SIZE\napp  1  $FULLAPP  AGE ago  13B\n"},
		"-q":               {out: "$APP\n$APP\n"},
		"-aq --no-trunc":   {out: "$FULLBARE\n$FULLAPP\n$FULLAPP\n"},
		"--digests app":    {out: "REPOSITORY  TAG  DIGEST  IMAGE ID  CREATED  SIZE\napp  1  <none>  $APP  AGE ago  13B\n"},
		"-a --format {{.Repository}}:{{.Tag}}={{.ID}}": {out: "<none>:<none>=$BARE\napp:1=$APP\nregistry.test/x/app:2=$APP\n"},
		"--format json app": {out: `{"Containers":"0","CreatedAt":"2020-01-02 03:04:05 +0000 UTC","CreatedSince":"AGE ago","Digest":"\u003cnone\u003e","ID":"$APP",` +
			`"Repository":"app","SharedSize":"N/A","Size":"13B","Tag":"1","UniqueSize":"N/A"}` + "\n"},
		"-q -a app":                               {out: "$APP\n"},
		"-q app:2":                                {},
		"-q registry.test/*/*":                    {out: "$APP\n"},
		"-q --filter label=k":                     {out: "$APP\n$APP\n"},
		"-q --filter label=k=w":                   {},
		"-q --filter dangling=true":               {out: "$BARE\n"},
		"-q --filter dangling=0 -f reference=app": {out: "$APP\n"},
		"-q --filter until=1h":                    {out: "$APP\n$APP\n"},
		"-aq --filter until=1h":                   {out: "$BARE\n$APP\n$APP\n"},
		"-q nosuch":                               {},
		"ls":                                      {out: "REPOSITORY  TAG  IMAGE ID  CREATED  SIZE\n", stderr: "No images found matching \"ls\": did you mean \"mica image ls\"?\n"},
		"-q --filter before=app:1":                {},
		"--filter x":                              {err: `invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)`},
		"--filter x=y":                            {err: "invalid filter 'x'"},
		"--filter dangling=maybe":                 {err: "invalid filter 'dangling=[maybe]'"},
		"--filter since=nosuch":                   {err: "No such image: nosuch:latest"},
		"--format {{.Nothing}}":                   {err: `template parsing error: template: :1:2: executing "" at <.Nothing>: can't evaluate field Nothing in type *formatter.imageContext`},
		"--tree -q":                               {err: "--tree cannot be combined with --quiet, --format or --digests"},
		"--tree --digests":                        {err: "--tree cannot be combined with --quiet, --format or --digests"},
	})
}

func TestImagesOfAnEmptyStore(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	if got := m.Run(NewImagesCommand); got.Stdout != "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n" || got.Err != nil {
		t.Errorf("%+v", got)
	}
	if got := m.Run(NewImagesCommand, "-q"); got.Stdout != "" || got.Err != nil {
		t.Errorf("%+v", got)
	}
}

// TestImagesFormat: docker's configuration may have a format, which -q and --format override.
func TestImagesFormat(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Docker = &configfile.ConfigFile{ImagesFormat: "{{.Tag}}"}
	f.test(t, NewImagesCommand, map[string]outcome{
		"":                     {out: "1\n2\n"},
		"-q app":               {out: "$APP\n"},
		"--format table app:1": {out: "REPOSITORY  TAG  IMAGE ID  CREATED  SIZE\napp  1  $APP  AGE ago  13B\n"},
	})
}

// TestImagesWithDigest: an image that a registry has under a digest has a row for the repository, without a tag if none is left.
func TestImagesWithDigest(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	img := m.Image(nil)
	name := "registry.test/x@" + img.Target.Digest.String()
	if _, err := m.Images.Keep(t.Context(), img.Target, name); err != nil {
		t.Fatal(err)
	}
	const format = "{{.Repository}} {{.Tag}} {{.Digest}}"
	if got, want := m.Run(NewImagesCommand, "-a", "--digests", "--format", format), "registry.test/x <none> "+img.Target.Digest.String()+"\n"; got.Stdout != want {
		t.Errorf("%q, %v, want %q", got.Stdout, got.Err, want)
	}
	m.Tag(img, "registry.test/x:1", "y:1")
	want := "registry.test/x 1 " + img.Target.Digest.String() + "\ny 1 <none>\n"
	if got := m.Run(NewImagesCommand, "-a", "--digests", "--format", format); got.Stdout != want {
		t.Errorf("%q, %v, want %q", got.Stdout, got.Err, want)
	}
}

func TestImagesTree(t *testing.T) {
	t.Parallel()
	newFixture(t).test(t, NewImagesCommand, map[string]outcome{
		"--tree -a": {out: "IMAGE  ID  SIZE  CREATED BY\n<untagged>  $BARE  4B\n└─ linux/amd64\n  └─ layer  $A  4B\n\n" +
			"app:1  $APP  13B\nregistry.test/x/app:2  $APP  13B\n└─ linux/amd64\n  ├─ layer  $B  9B  COPY b / # buildkit\n  └─ layer  $A  4B  COPY a / # buildkit\n"},
		"--tree --no-trunc app:1": {out: "IMAGE  ID  SIZE  CREATED BY\n" +
			"app:1  $FULLAPP  13B\n└─ linux/amd64\n  ├─ layer  $FULLB  9B  COPY b / # buildkit\n  └─ layer  $FULLA  4B  COPY a / # buildkit\n"},
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	const long = "ENV A=1 a very long instruction that is longer than forty-five columns"
	const short = "ENV A=1 a very long instruction that is long…"
	newFixture(t).test(t, NewHistoryCommand, map[string]outcome{
		"app:1": {out: "IMAGE  CREATED  CREATED BY  SIZE  COMMENT\n$APP  AGE ago  COPY b / # buildkit  9B  buildkit.dockerfile.v0\n" +
			"<missing>  AGE ago  " + short + "  0B\n<missing>  AGE ago  COPY a / # buildkit  4B  buildkit.dockerfile.v0\n"},
		"--no-trunc app:1": {out: "IMAGE  CREATED  CREATED BY  SIZE  COMMENT\n$FULLAPP  AGE ago  COPY b / # buildkit  9B  buildkit.dockerfile.v0\n" +
			"<missing>  AGE ago  " + long + "  0B\n<missing>  AGE ago  COPY a / # buildkit  4B  buildkit.dockerfile.v0\n"},
		"--human=false $APP": {out: "IMAGE  CREATED AT  CREATED BY  SIZE  COMMENT\n$APP  2020-01-02T03:04:05Z  COPY b / # buildkit  9  buildkit.dockerfile.v0\n" +
			"<missing>  2020-01-02T03:04:05Z  " + short + "  0\n<missing>  2020-01-02T03:04:05Z  COPY a / # buildkit  4  buildkit.dockerfile.v0\n"},
		"-q app:1":                            {out: "$APP\n<missing>\n<missing>\n"},
		"-q --no-trunc app:1":                 {out: "$FULLAPP\n<missing>\n<missing>\n"},
		"--format {{.Size}}{{.Comment}} $APP": {out: "9Bbuildkit.dockerfile.v0\n0B\n4Bbuildkit.dockerfile.v0\n"},
		"--format table{{.CreatedBy}} $BARE":  {out: "CREATED BY\n"},
		"--format {{.X}} app:1":               {err: `template parsing error: template: :1:2: executing "" at <.X>: can't evaluate field X in type *imagecmd.historyRow`},
		"nosuch":                              {err: "No such image: nosuch:latest"},
		"nosuch@sha256:00":                    {err: `invalid reference "nosuch@sha256:00": invalid reference format`},
	})
}

func TestHistoryJSON(t *testing.T) {
	t.Parallel()
	newFixture(t).test(t, NewHistoryCommand, map[string]outcome{
		"--format json app:1": {out: `{"Comment":"buildkit.dockerfile.v0","CreatedAt":"2020-01-02T03:04:05Z","CreatedBy":"COPY b / # buildkit","CreatedSince":"AGE ago","ID":"$APP","Size":"9B"}` + "\n" +
			`{"Comment":"","CreatedAt":"2020-01-02T03:04:05Z","CreatedBy":"ENV A=1 a very long instruction that is long…","CreatedSince":"AGE ago","ID":"\u003cmissing\u003e","Size":"0B"}` + "\n" +
			`{"Comment":"buildkit.dockerfile.v0","CreatedAt":"2020-01-02T03:04:05Z","CreatedBy":"COPY a / # buildkit","CreatedSince":"AGE ago","ID":"\u003cmissing\u003e","Size":"4B"}` + "\n"},
	})
}

// TestHistoryWithoutTimes: a build with SOURCE_DATE_EPOCH=0 has no age.
func TestHistoryWithoutTimes(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	img := m.Image(func(c map[string]any) {
		c["history"] = []any{map[string]any{"created": "1970-01-01T00:00:00Z", "created_by": "CMD x", "empty_layer": true}}
	})
	got := m.Run(NewHistoryCommand, "--format", "{{.CreatedSince}} {{.CreatedAt}} {{.CreatedBy}}", img.ID.String())
	if want := "N/A 1970-01-01T00:00:00Z CMD x\n"; got.Stdout != want || got.Err != nil {
		t.Errorf("%+v, want %q", got, want)
	}
}
