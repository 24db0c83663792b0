package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/errdefs"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/dockerfile"
)

const untilDockerfile = `# syntax=docker/dockerfile:1
FROM scratch AS one
ENV PATH=/bin
ARG V=1
ENV E=two
WORKDIR /w
COPY a f
USER 1:2
RUN --mount=type=tmpfs,target=/t ["/no/such"]
FROM scratch AS two
COPY nosuch /
FROM scratch AS three
COPY a /1
COPY a /2
ENTRYPOINT ["/x"]
FROM scratch AS private
RUN --mount=type=secret,id=s,required ["/x"]
FROM scratch AS invalid
NONSENSE
`

// inspectAt builds until a place, and describes the process there.
func inspectAt(t *testing.T, spec buildspec.Spec, place string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"Dockerfile": untilDockerfile, "a": "a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := newBuilder(t)
	spec.Network, spec.Path = "none", dir
	got := ""
	_, err := b.Build(t.Context(), Options{Spec: spec, Context: DirContext{Dir: dir}, At: place, Inspect: func(_ context.Context, c *Container) error {
		p := c.process
		var mounts []string
		for _, m := range p.Mounts {
			mounts = append(mounts, m.Target)
		}
		got = fmt.Sprintf("%v %s %q %v, %d layers", p.Env, p.Cwd, p.User, mounts, len(p.Root.Lowers))
		return errors.New("the end")
	}})
	if got != "" && (err == nil || err.Error() != "the end") {
		t.Errorf("%s: the error of Inspect is %v", place, err)
	}
	if got != "" {
		err = nil
	}
	if images, listErr := b.Images.List(t.Context()); len(images) > 0 || listErr != nil {
		t.Errorf("%d images, %v", len(images), listErr)
	}
	return got, err
}

// TestInspectAt: a build ends at a place with the process that a RUN has there.
func TestInspectAt(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]string{
		"2":     `[PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin] / "" [], 0 layers`,
		"4":     `[PATH=/bin] / "" [], 0 layers`,
		"6":     `[PATH=/bin V=1 E=two] / "" [], 0 layers`,
		"7":     `[PATH=/bin V=1 E=two] /w "" [], 1 layers`,
		"8":     `[PATH=/bin V=1 E=two] /w "" [], 2 layers`,
		"9":     `[PATH=/bin V=1 E=two] /w "1:2" [/t], 2 layers`,
		"14":    `[PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin] / "" [], 1 layers`,
		"three": `[PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin] / "" [], 2 layers`,
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			// A target and several platforms are those of the whole build.
			spec := buildspec.Spec{Target: "two"}
			var err error
			if spec.Platforms, err = buildspec.ParsePlatforms([]string{"linux/arm64,linux/amd64"}); err != nil {
				t.Fatal(err)
			}
			got, err := inspectAt(t, spec, place)
			if err != nil || got != want {
				t.Errorf("%s, %v, want %s", got, err, want)
			}
		})
	}
}

// TestInspectFailedCopy: what is inspected after a COPY that fails is the state before it, and the error stays that of the COPY. What
// fails before any step has none.
func TestInspectFailedCopy(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	for name, tt := range map[string]struct{ dockerfile, want, err string }{
		"COPY":       {"FROM scratch\nENV E=two\nWORKDIR /w\nCOPY a f\nCOPY nosuch /\nCOPY a g\n", "/w, 2 layers, true", `"/nosuch": not found`},
		"of a stage": {"FROM scratch AS one\nCOPY a /\nFROM scratch\nWORKDIR /v\nCOPY --from=one /nosuch /\n", "/v, 1 layers, true", `"/nosuch": not found`},
		"ADD":        {"FROM scratch\nCOPY a /\nADD nosuch /\n", "/, 1 layers, true", `"/nosuch": not found`},
		"a download": {"FROM scratch\nADD http://127.0.0.1:1/nosuch /\n", "/, 0 layers, true", "connection refused"},
		"syntax":     {"FROM scratch\nCOPY a\n", "", "COPY requires at least two arguments"},
	} {
		dir := writeFiles(t, map[string]string{"Dockerfile": tt.dockerfile, "a": "a"})
		got := ""
		_, err := b.Build(t.Context(), Options{
			Spec: buildspec.Spec{Path: dir, Network: "none"}, Context: DirContext{Dir: dir}, OnFailure: func(_ context.Context, c *Container, err error) {
				got = fmt.Sprintf("%s, %d layers, %t", c.process.Cwd, len(c.process.Root.Lowers), c.Before)
				if !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%s: looked into because of %v", name, err)
				}
			},
		})
		if err == nil || !strings.Contains(err.Error(), tt.err) || got != tt.want {
			t.Errorf("%s: %q, want %q, and %v, want %s", name, got, tt.want, err, tt.err)
		}
	}
}

func TestInspectAtErrors(t *testing.T) {
	t.Parallel()
	_, err := inspectAt(t, buildspec.Spec{}, "1")
	var wrong *dockerfile.PlaceError
	if !errors.As(err, &wrong) {
		t.Errorf("no step: %v", err)
	}
	if _, err = inspectAt(t, buildspec.Spec{}, "four"); !errors.As(err, &wrong) {
		t.Errorf("no stage: %v", err)
	}
	// Errors have their lines of the whole Dockerfile.
	for place, c := range map[string]struct {
		want string
		line int32
	}{"two": {"/nosuch", 11}, "17": {"secret s: not found", 17}, "invalid": {"unknown instruction: NONSENSE", 19}} {
		_, err = inspectAt(t, buildspec.Spec{}, place)
		sources := errdefs.Sources(err)
		if err == nil || !strings.Contains(err.Error(), c.want) || len(sources) == 0 {
			t.Errorf("%s: %v, want %s", place, err, c.want)
			continue
		}
		last := sources[len(sources)-1]
		if string(last.Info.Data) != untilDockerfile || last.Ranges[0].Start.Line != c.line {
			t.Errorf("%s: line %d of %s", place, last.Ranges[0].Start.Line, last.Info.Data)
		}
	}
}
