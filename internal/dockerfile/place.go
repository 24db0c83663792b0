package dockerfile

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// PlaceError is the error for a place that a Dockerfile does not have.
type PlaceError struct{ reason string }

func (e *PlaceError) Error() string { return e.reason }

// marker is a RUN for a state that no RUN of the Dockerfile begins with. It is not run.
const marker = "RUN :\n"

// Before returns the beginning of a Dockerfile up to a place, which is the line of an instruction or the name of a stage. It ends in a RUN
// that begins with the state before the instruction, or with that at the end of the stage: the RUN at the line, or one that is added. The state
// before a FROM is the base image.
func Before(text []byte, place string) ([]byte, error) {
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	line, notLine := strconv.Atoi(place)
	if notLine != nil {
		return d.stage(place)
	}
	in, err := d.at(line)
	if err != nil {
		return nil, err
	}
	switch in.name {
	case command.Run:
		return d.upTo(in.last), nil
	case command.From:
		return d.marked(in.last), nil
	}
	return d.marked(in.first - 1), nil
}

// After returns the beginning of a Dockerfile up to the end of the instruction at a line, and a RUN that begins with the state there.
func After(text []byte, line int) ([]byte, error) {
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	in, err := d.at(line)
	if err != nil {
		return nil, err
	}
	return d.marked(in.last), nil
}

// Copies reports whether the instruction at a line is a COPY or an ADD.
func Copies(text []byte, line int) bool {
	d, err := parse(text)
	if err != nil {
		return false
	}
	in, err := d.at(line)
	return err == nil && (in.name == command.Copy || in.name == command.Add)
}

// CopiesFrom returns the stage that the COPY at a line copies from, "" for another instruction, or another source.
func CopiesFrom(text []byte, line int) string {
	d, err := parse(text)
	if err != nil {
		return ""
	}
	in, err := d.at(line)
	if err != nil || in.from == "" {
		return ""
	}
	if slices.ContainsFunc(d.list, func(st instruction) bool { return st.stage != "" && strings.EqualFold(st.stage, in.from) }) {
		return in.from
	}
	return ""
}

// instruction is one of a stage.
type instruction struct {
	name        string
	stage       string // of a FROM: the name of its stage
	from        string // of a COPY: --from
	first, last int    // lines
}

// document is a Dockerfile with the places of its instructions.
type document struct {
	text   []byte
	escape rune          // at the end of a line that continues
	list   []instruction // of all stages
}

// parse finds the instructions of a Dockerfile. The compiler reports other errors in them.
func parse(text []byte) (*document, error) {
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	d := &document{text: text, escape: parsed.EscapeToken}
	for _, node := range parsed.AST.Children {
		in := instruction{name: strings.ToLower(node.Value), first: node.StartLine, last: node.EndLine}
		if in.name != command.From && len(d.list) == 0 {
			continue // a global ARG
		}
		c, err := instructions.ParseInstruction(node)
		if st, ok := c.(*instructions.Stage); ok && err == nil {
			in.stage = st.Name
		}
		if cp, ok := c.(*instructions.CopyCommand); ok && err == nil {
			in.from = cp.From
		}
		d.list = append(d.list, in)
	}
	return d, nil
}

// at returns the instruction at a line.
func (d *document) at(line int) (instruction, error) {
	i := slices.IndexFunc(d.list, func(in instruction) bool { return in.first <= line && line <= in.last })
	if len(d.list) == 0 {
		return instruction{}, &PlaceError{"the Dockerfile has no stage"}
	}
	if i < 0 {
		return instruction{}, &PlaceError{fmt.Sprintf("there is no step at line %d of the Dockerfile: its instructions are at %s", line, d.lines())}
	}
	return d.list[i], nil
}

// stage returns the Dockerfile up to the end of a stage.
func (d *document) stage(name string) ([]byte, error) {
	last, names := 0, []string{}
	open := false
	for _, in := range d.list {
		if in.name == command.From {
			open = name != "" && strings.EqualFold(in.stage, name)
			if in.stage != "" {
				names = append(names, in.stage)
			}
		}
		if open {
			last = in.last
		}
	}
	if last > 0 {
		return d.marked(last), nil
	}
	known := "none has a name"
	if len(names) > 0 {
		known = "they are " + strings.Join(names, ", ")
	}
	return nil, &PlaceError{fmt.Sprintf("the Dockerfile has no stage %q: %s", name, known)}
}

// maxLines is how many ranges of lines an error lists.
const maxLines = 20

// lines lists the lines of instructions: "lines 1, 3-5, 8".
func (d *document) lines() string {
	l := d.list
	var ranges []string
	for i := 0; i < len(l); {
		j := i
		for j+1 < len(l) && l[j+1].first == l[j].last+1 {
			j++
		}
		if len(ranges) == maxLines {
			ranges = append(ranges, "…")
			break
		}
		text := strconv.Itoa(l[i].first)
		if l[j].last > l[i].first {
			text += "-" + strconv.Itoa(l[j].last)
		}
		ranges = append(ranges, text)
		i = j + 1
	}
	return "lines " + strings.Join(ranges, ", ")
}

// upTo returns the first lines.
func (d *document) upTo(lines int) []byte {
	end := 0
	for range lines {
		next := bytes.IndexByte(d.text[end:], '\n')
		if next < 0 {
			end = len(d.text)
			break
		}
		end += next + 1
	}
	return bytes.Clone(d.text[:end])
}

// marked returns the first lines, and the marker. The last line of a Dockerfile may say that it continues, by one escape character.
func (d *document) marked(lines int) []byte {
	cut := bytes.TrimRight(d.upTo(lines), " \t\r\n")
	if escape := string(d.escape); !bytes.HasSuffix(cut, []byte(escape+escape)) {
		cut = bytes.TrimSuffix(cut, []byte(escape))
	}
	if len(cut) > 0 {
		cut = append(cut, '\n')
	}
	return append(cut, marker...)
}
