package printer

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/image"
)

func TestTemplate(t *testing.T) {
	t.Parallel()
	value := struct {
		Name string
		List []string
	}{"n", []string{"a", "b"}}
	for format, want := range map[string]string{
		"json":                       `{"Name":"n","List":["a","b"]}` + "\n",
		"{{.Name}}":                  "n\n",
		"{{json .List}}":             "[\"a\",\"b\"]\n",
		`{{join .List "-"}}`:         "a-b\n",
		"{{upper .Name}}{{println}}": "N\n\n",
		"":                           "\n",
	} {
		var out bytes.Buffer
		if err := Template(&out, format, value); err != nil || out.String() != want {
			t.Errorf("%s: %q, %v, want %q", format, out.String(), err, want)
		}
	}
	for _, format := range []string{"{{", "{{.No}}", "{{nosuch .Name}}"} {
		var exit *command.ExitError
		if err := Template(&bytes.Buffer{}, format, value); !errors.As(err, &exit) || exit.Code != 64 {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// TestSummaries: a row for each name, and one for a repository of which only a digest is known.
func TestSummaries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		names, digests []string
		want           [][2][]string // tags and digests of each row
	}{
		"no name":        {want: [][2][]string{{}}},
		"two names":      {[]string{"a:1", "b:1"}, nil, [][2][]string{{{"a:1"}}, {{"b:1"}}}},
		"a digest":       {nil, []string{"a@d"}, [][2][]string{{nil, {"a@d"}}}},
		"both":           {[]string{"a:1"}, []string{"a@d"}, [][2][]string{{{"a:1"}, {"a@d"}}}},
		"of another":     {[]string{"a:1"}, []string{"b@d"}, [][2][]string{{{"a:1"}}, {nil, {"b@d"}}}},
		"a port":         {[]string{"h:5000/a:1"}, []string{"h:5000/a@d"}, [][2][]string{{{"h:5000/a:1"}, {"h:5000/a@d"}}}},
		"digests of one": {nil, []string{"a@d", "a@e"}, [][2][]string{{nil, {"a@d"}}}},
	} {
		img := &image.Image{ID: digest.FromString("x"), Names: c.names, Digests: c.digests, Size: 7}
		var got [][2][]string
		for _, s := range summaries([]*image.Image{img}, nil) {
			if s.ID != img.ID.String() || s.Size != 7 {
				t.Errorf("%s: %+v", name, s)
			}
			got = append(got, [2][]string{s.RepoTags, s.RepoDigests})
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestRepositoryName(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"a": "a", "a:1": "a", "a@sha256:0": "a", "a:1@sha256:0": "a", "h:5000/a": "h:5000/a", "h:5000/a:1": "h:5000/a", "h:5000/a@sha256:0": "h:5000/a",
	} {
		if got := repositoryName(ref); got != want {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
}

// TestImages: any other format than the table is docker's own.
func TestImages(t *testing.T) {
	t.Parallel()
	created := time.Now().Add(-49 * time.Hour)
	img := &image.Image{ID: digest.FromString("x"), Names: []string{"a:1"}, Size: 1500}
	img.Config.Created = &created
	for format, want := range map[string]string{
		"table": "REPOSITORY   TAG       IMAGE ID       CREATED      SIZE\na            1         2d711642b726   2 days ago   1.5kB\n",
		"{{.Repository}}:{{.Tag}} {{.CreatedSince}}": "a:1 2 days ago\n",
		"{{.Containers}}":          "1\n",
		"table {{.ID}}\t{{.Size}}": "IMAGE ID       SIZE\n2d711642b726   1.5kB\n",
	} {
		var out bytes.Buffer
		c := formatter.ImageContext{Context: formatter.Context{Output: &out, Format: formatter.NewImageFormat(format, false, false), Trunc: true}}
		if err := Images(c, []*image.Image{img}, map[digest.Digest]int64{img.ID: 1}); err != nil || out.String() != want {
			t.Errorf("%s: %v\n%s", format, err, cmp.Diff(want, out.String()))
		}
	}
}

// TestTemplateUnwritten: output that cannot be written is no mistake in the template.
func TestTemplateUnwritten(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	_ = r.CloseWithError(io.ErrShortWrite)
	for _, format := range []string{"{{.}}", "json"} {
		if err := Template(w, format, 1); !errors.Is(err, io.ErrShortWrite) || errors.As(err, new(*command.ExitError)) {
			t.Errorf("%s: error %v", format, err)
		}
	}
}
