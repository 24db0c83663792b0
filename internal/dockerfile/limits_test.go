package dockerfile

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// lines repeats a line, with its number in place of #.
func lines(n int, line string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(line, "#", fmt.Sprint(i)) + "\n")
	}
	return b.String()
}

var tenfold = strings.Repeat("${A}", 10)

func TestDockerfileBombs(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"ARG":                {"FROM scratch\nARG A=0123456789\n" + lines(8, "ARG A="+tenfold), "Dockerfile:8: a value is longer than 1MiB"},
		"ARG before FROM":    {"ARG A=0123456789\n" + lines(8, "ARG A="+tenfold) + "FROM scratch\n", "Dockerfile:7: a value"},
		"in one ARG":         {"FROM scratch\nARG A=0123456789" + strings.Repeat(" A="+tenfold, 8) + "\n", "Dockerfile:2: a value"},
		"ENV":                {"FROM scratch\nENV A=0123456789\n" + lines(8, "ENV A="+tenfold), "Dockerfile:8: a value"},
		"over stages":        {"FROM scratch AS s0\nENV A=0123456789\n" + lines(8, "FROM s0\nENV A="+tenfold+"\nFROM s0 AS s0\n"), ""},
		"a stage of a stage": {"FROM scratch AS a\nENV A=0123456789\n" + lines(3, "ENV A="+tenfold) + "FROM a AS b\n" + lines(5, "ENV A="+tenfold), "Dockerfile:9: a value"},
		"by its number":      {"FROM scratch\nENV A=0123456789\n" + lines(3, "ENV A="+tenfold) + "FROM 0\n" + lines(5, "ENV A="+tenfold), ""},
		"by a variable":      {"ARG B=a\nFROM scratch AS a\nENV A=0123456789\n" + lines(3, "ENV A="+tenfold) + "FROM $B\n" + lines(5, "ENV A="+tenfold), "Dockerfile:10: a value"},
		"with defaults":      {"FROM scratch\nENV A=0123456789\n" + lines(8, "ENV A="+strings.Repeat("${B:-${A}}", 10)), "a value"},
		"replacement":        {"FROM scratch\nENV A=" + strings.Repeat("a", 6000) + "\nENV B=${A//a/$A}\n", "Dockerfile:3: a value"},
		"nested replacement": {"FROM scratch\nENV A=" + strings.Repeat("a", 600) + "\nENV B=${A//a/${A//a/$A}}\n", "Dockerfile:3: a value"},
		"nested":             {"FROM scratch\nENV A=" + strings.Repeat("${A:-", 5_000) + strings.Repeat("}", 5_000) + "\n", "Dockerfile:2: variables are nested deeper than 100"},
		"a heredoc":          {"FROM scratch\nARG A=" + strings.Repeat("a", 60_000) + "\nCOPY <<E /f\n" + lines(2000, "$A") + "E\n", "a value"},
		"one with a quote":   {"FROM scratch\nARG A=" + strings.Repeat("a", 60_000) + "\nCOPY <<E /f\n'\n" + lines(2000, "$A") + "'\nE\n", "a value"},
		"RUN":                {"FROM scratch\nARG A=" + strings.Repeat("a", 60_000) + "\n" + lines(3000, "RUN true"), "the variables of all RUN instructions together take more than 256MiB"},
		"variables":          {"FROM scratch\n" + lines(20_000, "ENV E#=v"), "too many variables in too many instructions"},
		"in one ENV":         {"FROM scratch\nENV " + lines(20_000, "E#=v \\") + "\n", "Dockerfile:2: too many variables"},
		"stages":             {"FROM scratch AS s\n" + lines(1500, "ENV E#=v") + lines(3000, "FROM s"), "too many variables"},
		"ports":              {"FROM scratch\n" + lines(5, "EXPOSE 1-65535/udp 127.0.0.1:1-65535"), "EXPOSE of more than 262144 ports"},
		"after an error":     {"FROM scratch\nENV B=${X:?no}\nENV A=0123456789\n" + lines(8, "ENV A="+tenfold), "a value"},
	} {
		t.Run(name, func(t *testing.T) {
			err := NewChecker(nil).File("/dir/Dockerfile", []byte(tt.text))
			if tt.want == "" && err == nil {
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Error(err)
			}
		})
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.Sys > 1<<30 {
		t.Errorf("they took %d MiB of memory", m.Sys>>20)
	}
}

// TestValuesAddUp: a meter that has counted nearly all that is allowed counts on. To expand 64 MiB takes a minute with the race
// detector.
func TestValuesAddUp(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{"LABEL": "LABEL l#=$A", "COPY": "COPY $A /", "ENV": "ENV E#=$A"} {
		text := "FROM scratch\nARG A=" + strings.Repeat("a", 60_000) + "\n" + lines(20, line)
		parsed, err := parser.Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		stages, global, err := instructions.Parse(parsed.AST, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := newMeter(parsed.EscapeToken, nil)
		m.expanded = maxExpanded - 10*60_000
		got := m.dockerfile(stages, global, origin{})
		if got == nil || !strings.Contains(got.Error(), "all values together take more than 64MiB") || got.Line < 8 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestOrdinaryDockerfiles have far less than is allowed.
func TestOrdinaryDockerfiles(t *testing.T) {
	for name, text := range map[string]string{
		"many ENV":      "FROM scratch\n" + lines(3000, "ENV E#=v"),
		"a growing ENV": "FROM scratch\nENV P=/bin\n" + lines(200, "ENV P=$P:/opt/a/directory/#/bin\nRUN true"),
		"many stages":   "FROM scratch AS s\n" + lines(100, "ENV E#=v") + lines(500, "FROM s\nENV A=1\nRUN true"),
		"all ports":     "FROM scratch\nEXPOSE 1-65535/tcp 1-65535/udp\n",
		"a replacement": "FROM scratch\nENV V=1.2.3-rc.4\nENV W=${V//./_} X=${V/./-}\nLABEL l=" + strings.Repeat("text", 2000) + "${V//./}\n",
		"a long RUN":    "FROM scratch\nRUN true \\\n" + lines(maxValue/500, " && echo "+strings.Repeat("a", 600)+" \\") + " && true\n",
		"a mistake":     "FROM scratch\nNONSENSE\n",
		"a check":       "FROM scratch\n# check=skip=MaintainerDeprecated\nMAINTAINER me\n",
		"nothing":       "",
	} {
		if err := NewChecker(nil).File("Dockerfile", []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBombsFromElsewhere: build arguments and base images bring the values and instructions that a Dockerfile multiplies.
func TestBombsFromElsewhere(t *testing.T) {
	long := strings.Repeat("a", 100_000)
	twice := []byte("FROM image\nARG A\n" + lines(2, "ENV A="+tenfold))
	b := NewChecker(map[string]string{"build-arg:A": long})
	if err := b.File("Dockerfile", twice); err == nil || !strings.Contains(err.Error(), "Dockerfile:4:") {
		t.Errorf("build argument: %v", err)
	}
	for name, config := range map[string]dockerspec.DockerOCIImageConfig{
		"variable": imageConfig([]string{"A=" + long}, nil),
		"triggers": imageConfig([]string{"A=0123456789"}, strings.Split(strings.TrimSpace(lines(8, "ENV A="+tenfold)), "\n")),
		"many":     imageConfig(strings.Split(strings.TrimSpace(lines(20_000, "A#=")), "\n"), nil),
	} {
		b := NewChecker(nil)
		if err := b.File("Dockerfile", []byte("FROM image\n"+lines(2, "ENV A="+tenfold))); err != nil {
			t.Fatalf("%s, without the image: %v", name, err)
		}
		raw, err := json.Marshal(dockerspec.DockerOCIImage{Config: config})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Base(raw); err == nil || !strings.HasPrefix(err.Error(), "Dockerfile:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func imageConfig(env, triggers []string) (c dockerspec.DockerOCIImageConfig) {
	c.Env, c.OnBuild = env, triggers
	return c
}

func TestIgnoreFileBombs(t *testing.T) {
	if err := NewChecker(nil).File("d/.dockerignore", []byte(lines(20_000, "a#"))); err == nil || !strings.Contains(err.Error(), "20000 lines") {
		t.Errorf("%v", err)
	}
	if err := NewChecker(nil).File("Dockerfile.dockerignore", []byte(lines(5_000, "a#"))); err != nil {
		t.Error(err)
	}
}

func TestIgnoreFilePatterns(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                            "",
		"# [ in a comment\n\n!keep\n": "",
		"a\n[\n":                      `.dockerignore:2: invalid pattern "[": syntax error in pattern`,
		"a\n  !  \n":                  `.dockerignore:2: invalid pattern "!": illegal exclusion pattern: "!"`,
		"\ufeffa\nb[":                 `.dockerignore:2: invalid pattern "b[": syntax error in pattern`,
	} {
		b := NewChecker(nil)
		got := ""
		if err := b.File("dir/.dockerignore", []byte(text)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if kept := b.IgnoreError(); (kept != nil) != (want != "") {
			t.Errorf("%q: the compiler's caller gets %v", text, kept)
		}
	}
}

// FuzzLimits looks through arbitrary Dockerfiles: it ends, and what it ends with names a line.
func FuzzLimits(f *testing.F) {
	for _, text := range []string{
		"FROM scratch\nARG A=0123456789\n" + lines(8, "ARG A="+tenfold), "FROM a AS b\nFROM b\nENV A=${B//x/${C:-$D}}\nEXPOSE 1-65535 $A\n",
		"FROM scratch\nARG A=x\n" + lines(40, "ARG A=$A$A"), "FROM scratch\n" + lines(300, "ENV E#=v"), "FROM scratch\nENV " + lines(300, "E#=$E \\") + "\n",
		"FROM scratch\nRUN true \\\n" + lines(2000, " && true \\") + " && false\n", "FROM scratch\nENV A=" + strings.Repeat("${A:-", 99) + strings.Repeat("}", 99),
		"FROM scratch\nENV A=${A//a/$A} B=${A#$A} C=${A%%$B}\n", "#syntax=docker/dockerfile:1\nFROM scratch\nRUN <<A <<-B\n$A\nA\n\tB\n",
		"FROM scratch\nCOPY <<E /f\n'$A'\nE\nRUN --mount=type=cache,target=$A true\n", "# escape=`\nFROM --platform=$A $B\nONBUILD ENV A=$A$A\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b := NewChecker(map[string]string{"build-arg:A": "0123456789"})
		err := b.File("Dockerfile", text)
		if err == nil {
			err = b.Base([]byte(`{"config":{"Env":["B=0123456789"],"OnBuild":["ENV C=$A$B$C"]}}`))
		}
		if err != nil && (!strings.HasPrefix(err.Error(), "Dockerfile:") || strings.HasPrefix(err.Error(), "Dockerfile:0:")) {
			t.Error(err)
		}
	})
}
