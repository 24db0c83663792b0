package dockerfile

import (
	"errors"
	"strconv"
	"strings"
	"testing"
)

const staged = `# syntax=docker/dockerfile:1
ARG V=1

FROM base:$V AS build
# a comment
RUN one \
  two
COPY <<EOT /x
FROM nothing
EOT
ENV A=1
RUN <<EOT
three
EOT

FROM scratch
COPY --from=build /x /
FROM base AS Last
USER 1`

// firstLines returns the first lines of a text without those that are empty at the end, and more.
func firstLines(text string, n int, more string) string {
	all := strings.SplitAfter(text, "\n")
	cut := strings.Join(all[:min(n, len(all))], "")
	if more == "" {
		return cut
	}
	return strings.TrimRight(cut, "\n") + "\n" + more
}

func TestBefore(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]string{
		"4": firstLines(staged, 4, marker), "6": firstLines(staged, 7, ""), "7": firstLines(staged, 7, ""), "8": firstLines(staged, 7, marker), "9": firstLines(staged, 7, marker),
		"11": firstLines(staged, 10, marker), "12": firstLines(staged, 14, ""), "14": firstLines(staged, 14, ""), "16": firstLines(staged, 16, marker),
		"17": firstLines(staged, 16, marker), "18": firstLines(staged, 18, marker), "19": firstLines(staged, 18, marker),
		"build": firstLines(staged, 14, marker), "BUILD": firstLines(staged, 14, marker), "last": staged + "\n" + marker,
	} {
		if got, err := Before([]byte(staged), place); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", place, got, err, want)
		}
	}
	for place, c := range map[string]struct{ text, want string }{
		"2":      {staged, "there is no step at line 2 of the Dockerfile: its instructions are at lines 4, 6-14, 16-19"},
		"5":      {staged, "there is no step at line 5 of the Dockerfile: its instructions are at lines 4, 6-14, 16-19"},
		"99":     {staged, "there is no step at line 99 of the Dockerfile: its instructions are at lines 4, 6-14, 16-19"},
		"-1":     {staged, "there is no step at line -1 of the Dockerfile: its instructions are at lines 4, 6-14, 16-19"},
		"test":   {staged, `the Dockerfile has no stage "test": they are build, last`},
		"":       {staged, `the Dockerfile has no stage "": they are build, last`},
		"1":      {"ARG A\n", "the Dockerfile has no stage"},
		"unused": {"FROM a\n", `the Dockerfile has no stage "unused": none has a name`},
	} {
		_, err := Before([]byte(c.text), place)
		var wrong *PlaceError
		if !errors.As(err, &wrong) || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", place, err, c.want)
		}
	}
	if _, err := Before([]byte("FROM a\nRUN <<EOT\n"), "2"); err == nil {
		t.Error("a Dockerfile that cannot be parsed has a place")
	}
}

func TestAfter(t *testing.T) {
	t.Parallel()
	for line, want := range map[int]string{
		4: firstLines(staged, 4, marker), 6: firstLines(staged, 7, marker), 9: firstLines(staged, 10, marker), 12: firstLines(staged, 14, marker), 19: staged + "\n" + marker,
	} {
		if got, err := After([]byte(staged), line); err != nil || string(got) != want {
			t.Errorf("%d: %q, %v, want %q", line, got, err, want)
		}
	}
	if _, err := After([]byte(staged), 3); err == nil {
		t.Error("there is a step at an empty line")
	}
}

// TestManyLines: an error does not list thousands of lines.
func TestManyLines(t *testing.T) {
	t.Parallel()
	text := "FROM a\n"
	for range 100 {
		text += "\nENV A=1\n"
	}
	_, err := Before([]byte(text), strconv.Itoa(1000))
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("%v", err)
	}
}

func TestCopies(t *testing.T) {
	t.Parallel()
	for line, want := range map[int]bool{0: false, 1: false, 2: true, 3: true, 4: false, 5: true, 9: false} {
		if got := Copies([]byte("FROM a\nCOPY \\\n  a b\nRUN cp a b\nADD a /\n"), line); got != want {
			t.Errorf("line %d: %t", line, got)
		}
	}
	if Copies([]byte("FROM a\nCOPY <<EOT /\n"), 2) {
		t.Error("a COPY without an end copies")
	}
}

func TestCopiesFrom(t *testing.T) {
	t.Parallel()
	const text = "FROM a AS One\nCOPY x /\nFROM b\nCOPY --from=one x /\nCOPY --from=image x /\nCOPY --from=0 x /\nRUN x\nCOPY --bad x\n"
	for line, want := range map[int]string{2: "", 3: "", 4: "one", 5: "", 6: "", 7: "", 8: "", 99: ""} {
		if got := CopiesFrom([]byte(text), line); got != want {
			t.Errorf("%d: %q, want %q", line, got, want)
		}
	}
	if got := CopiesFrom([]byte("FROM a\nCOPY <<EOT /\n"), 2); got != "" {
		t.Errorf("a Dockerfile that cannot be parsed copies from %q", got)
	}
}

// TestContinuedAtEnd: a Dockerfile may end in a line that continues, in either escape character.
func TestContinuedAtEnd(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"FROM a AS x\r\nRUN b \\":               "FROM a AS x\r\nRUN b \nRUN :\n",
		"FROM a AS x\nRUN b \\\n\n":             "FROM a AS x\nRUN b \nRUN :\n",
		"FROM a AS x\nRUN b \\\\\n":             "FROM a AS x\nRUN b \\\\\nRUN :\n",
		"# escape=`\nFROM a AS x\nRUN b \\ `\n": "# escape=`\nFROM a AS x\nRUN b \\ \nRUN :\n",
	} {
		if got, err := Before([]byte(text), "x"); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}
