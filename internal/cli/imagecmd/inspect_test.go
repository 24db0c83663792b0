package imagecmd

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	imagetypes "github.com/moby/moby/api/types/image"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestInspect: the document has docker's fields, in docker's order and indentation.
func TestInspect(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	got := f.Run(NewInspectCommand, "app:1")
	before, after, ok := strings.Cut(got.Stdout, `"LastTagTime": "`)
	if got.Err != nil || !ok {
		t.Fatalf("%+v", got)
	}
	want := f.ids(`[
    {
        "Id": "$FULLAPP",
        "RepoTags": [
            "app:1",
            "registry.test/x/app:2"
        ],
        "RepoDigests": [],
        "Comment": "buildkit.dockerfile.v0",
        "Created": "2020-01-02T03:04:05Z",
        "Config": {
            "Env": [
                "A=1"
            ],
            "Cmd": [
                "sh"
            ],
            "Labels": {
                "k": "v"
            }
        },
        "Architecture": "amd64",
        "Os": "linux",
        "Size": 13,
        "RootFS": {
            "Type": "layers",
            "Layers": [
                "$FULLA",
                "$FULLB"
            ]
        },
        "Metadata": {
            `)
	if diff := cmp.Diff(want, before); diff != "" {
		t.Error(diff)
	}
	if _, end, _ := strings.Cut(after, `"`); end != "\n        }\n    }\n]\n" {
		t.Errorf("the end is %q", end)
	}
}

func TestInspectFormat(t *testing.T) {
	t.Parallel()
	newFixture(t).test(t, NewInspectCommand, map[string]outcome{
		"-f {{.Id}} app:1":                        {out: "$FULLAPP\n"},
		"-f {{.ID}} app:1":                        {out: "$FULLAPP\n"},
		"-f {{.Os}}/{{.Architecture}} $APP $BARE": {out: "linux/amd64\nlinux/amd64\n"},
		"-f {{.Config.Env|json}} app:1":           {out: "[\"A=1\"]\n"},
		"-f {{.Config.Labels.nothing}} app:1":     {out: "<no value>\n"},
		"-f {{.RootFS.Layers|len}} app:1":         {out: "2\n"},
		"-f {{.No}} app:1":                        {out: "\n", err: `template parsing error: template: :1:2: executing "" at <.No>: map has no entry for key "No"`},
		"-f {{ app:1":                             {err: "template parsing error: template: :1: unclosed action"},
		"-f {{.Id}} nosuch app:1":                 {out: "$FULLAPP\n", err: "error: no such object: nosuch"},
		"nosuch other":                            {out: "[]\n", err: "error: no such object: nosuch\nerror: no such object: other"},
		"--type image -f {{.Size}} app:1":         {out: "13\n"},
		"--type volume app:1":                     {err: `"volume" is not a valid value for --type: mica has images`},
	})
}

func TestImageInspect(t *testing.T) {
	t.Parallel()
	newFixture(t).test(t, NewImageInspectCommand, map[string]outcome{
		"-f {{.Id}} app:1":                        {out: "$FULLAPP\n"},
		"--platform linux/amd64 -f {{.Id}} app:1": {out: "$FULLAPP\n"},
		"--platform linux/s390x app:1":            {out: "[]\n", err: "image app:1 is for linux/amd64: no image for platform linux/s390x is in the store"},
		"--platform a/b/c/d app:1":                {err: "invalid platform \"a/b/c/d\": \"a/b/c/d\": cannot parse platform specifier: invalid argument"},
		"--platform all app:1":                    {err: `invalid platform "all": name one`},
		"nosuch":                                  {out: "[]\n", err: "No such image: nosuch:latest"},
	})
}

// TestInspectExitCodes: docker ends with 64 for a template that does not parse, and with 1 for one that fails.
func TestInspectExitCodes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for format, want := range map[string]int{"{{": 64, "{{.No}}": 1} {
		got := f.Run(NewInspectCommand, "-f", format, "app:1")
		var exit *command.ExitError
		if !errors.As(got.Err, &exit) || exit.Code != want {
			t.Errorf("%s: %v, want exit code %d", format, got.Err, want)
		}
	}
}

func TestInspectJSON(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	got := f.Run(NewInspectCommand, "-f", "json", "app:1", f.bare.ShortID())
	var list []imagetypes.InspectResponse
	if err := json.Unmarshal([]byte(got.Stdout), &list); err != nil || strings.Count(got.Stdout, "\n") != 1 {
		t.Fatalf("%v: %s", err, got.Stdout)
	}
	if len(list) != 2 || list[0].ID != f.app.ID.String() || list[1].ID != f.bare.ID.String() || len(list[1].RepoTags) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestInspectRemote(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	reg := registrytest.New(t)
	index, ours, theirs := reg.PutPlatforms("app", "1")
	only := reg.PutImage("other", "latest", registrytest.OtherArch(), nil, registrytest.Layer(t, "f", []byte("x")))
	for args, want := range map[string]string{
		reg.Name("app:1"):                     reg.Name("app:1") + " " + reg.Name("app") + "@" + index.Digest + " " + index.MediaType,
		reg.Name("app") + "@" + theirs.Digest: " " + reg.Name("app") + "@" + theirs.Digest + " " + ours.MediaType,
		reg.Name("other"):                     reg.Name("other:latest") + " " + reg.Name("other") + "@" + only.Digest + " " + only.MediaType,
	} {
		got := m.Run(NewImageInspectCommand, "--remote", "-f", `{{join .RepoTags ","}} {{join .RepoDigests ","}} {{.Descriptor.MediaType}}`, args)
		if got.Stdout != want+"\n" || got.Err != nil {
			t.Errorf("%s: %+v, want %q", args, got, want)
		}
	}
	got := m.Run(NewImageInspectCommand, "--remote", "--platform", "linux/"+registrytest.OtherArch(), "-f", "{{.Architecture}} {{len .RootFS.Layers}}", reg.Name("app:1"))
	if got.Stdout != registrytest.OtherArch()+" 2\n" || got.Err != nil {
		t.Errorf("%+v", got)
	}
	for args, want := range map[string]string{
		reg.Name("app:2"): "not found",
		"A":               `invalid reference format: "A": invalid reference format: repository name (library/A) must be lowercase`,
	} {
		if got := m.Run(NewImageInspectCommand, "--remote", args); !strings.Contains(commandtest.Text(got.Err), want) || got.Stdout != "[]\n" {
			t.Errorf("%s: %+v, want %q", args, got, want)
		}
	}
	if images, err := m.Images.List(t.Context()); len(images) > 0 || err != nil {
		t.Errorf("%d images were pulled, %v", len(images), err)
	}
}
