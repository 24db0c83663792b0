package dockerfile

import (
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func TestDepth(t *testing.T) {
	t.Parallel()
	for word, want := range map[string][2]int{
		"":                   {0, 0},
		"$A":                 {0, 0},
		"${A}":               {1, 0},
		"${A}${B}":           {1, 0},
		"${A:-${B:-${C}}}":   {3, 0},
		"${A:-${B}}${C}":     {2, 0},
		"${A/x/y}":           {1, 1},
		"${A/x/${B/y/z}}":    {2, 2},
		"${A/x/${B}}":        {2, 1},
		"${A:-${B/y/z}}":     {2, 1},
		"${A/x/y}${B/x/y}":   {1, 1},
		"}}${A}":             {1, 0},
		"${A:-${B":           {2, 0},
		"$${A}":              {1, 0},
		"${/x/y}":            {1, 1},
		"${A_1/x/y} ${A-/x}": {1, 1},
	} {
		if braces, replaced := depth(word); [2]int{braces, replaced} != want {
			t.Errorf("%s: %d, %d; want %v", word, braces, replaced, want)
		}
	}
}

func TestPortsOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"80": 1, "80/tcp": 1, "8000-8009": 10, "8000-8009/udp": 10, "1-65535": 65535, "127.0.0.1:1-3": 3, "10:8000-8001/tcp": 2,
		"": 1, "x": 1, "9-8": 1, "1-70000": 1, "-1-5": 1, "5-": 1, "0-0": 1,
	} {
		if got := portsOf(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	s := newScope()
	for _, c := range []struct {
		name, value string
		size        int64
	}{{"A", "12", 3}, {"B", "", 4}, {"A", "1", 3}, {"A", "12345", 7}, {"B", "x", 8}} {
		if s.set(c.name, c.value); s.size != c.size || s.vars[c.name] != c.value {
			t.Errorf("%s=%s: %d bytes, want %d", c.name, c.value, s.size, c.size)
		}
	}
}

// measure goes through a Dockerfile, and returns the variables of the last stage.
func measure(t *testing.T, text string, args map[string]string, from origin) (map[string]string, *meter) {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	stages, global, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := newMeter(parsed.EscapeToken, args)
	if err := m.dockerfile(stages, global, from); err != nil {
		t.Fatal(err)
	}
	return m.stages[strings.ToLower(stages[len(stages)-1].Name)].vars, m
}

// TestVariables: the meter gives variables the values that the compiler gives them.
func TestVariables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		args map[string]string
		from origin
		want map[string]string
	}{
		"ARG":                   {text: "FROM scratch\nARG A=1\nARG B=$A-$A\n", want: map[string]string{"A": "1", "B": "1-1"}},
		"build argument":        {text: "FROM scratch\nARG A=1\nARG B=$A\n", args: map[string]string{"A": "2", "X": "3"}, want: map[string]string{"A": "2", "B": "2"}},
		"without a value":       {text: "FROM scratch\nARG A\nENV B=x$A\n", want: map[string]string{"A": "", "B": "x"}},
		"global":                {text: "ARG A=1\nARG B=2\nFROM scratch\nARG A\n", want: map[string]string{"A": "1"}},
		"not declared":          {text: "ARG A=1\nFROM scratch\nENV B=$A\n", want: map[string]string{"B": ""}},
		"ENV":                   {text: "FROM scratch\nENV A=1 B=2\nENV A=$B$A\n", want: map[string]string{"A": "21", "B": "2"}},
		"within one ENV":        {text: "FROM scratch\nENV A=1\nENV A=2 B=$A\n", want: map[string]string{"A": "2", "B": "1"}},
		"default":               {text: "FROM scratch\nENV A=${X:-${Y:-z}} B=${A:+y}\n", want: map[string]string{"A": "z", "B": ""}},
		"of a stage":            {text: "FROM scratch AS A\nENV E=1\nFROM a\nENV F=$E\n", want: map[string]string{"E": "1", "F": "1"}},
		"of a stage's copy":     {text: "FROM scratch AS a\nENV E=1\nFROM a AS b\nENV E=2\nFROM a\nENV F=$E\n", want: map[string]string{"E": "1", "F": "1"}},
		"of another stage":      {text: "FROM scratch AS a\nENV E=1\nFROM scratch\nENV F=x$E\n", want: map[string]string{"F": "x"}},
		"of a base image":       {text: "FROM x\nENV F=$E\n", from: origin{env: map[string]string{"E": "1"}}, want: map[string]string{"E": "1", "F": "1"}},
		"of a trigger":          {text: "FROM x\nENV F=$E\n", from: origin{triggers: []string{"ENV E=1", "NONSENSE", "RUN true"}}, want: map[string]string{"E": "1", "F": "1"}},
		"with an escape":        {text: "# escape=`\nFROM scratch\nENV A=1\nENV B=`$A C=\\$A\n", want: map[string]string{"A": "1", "B": "$A", "C": "\\1"}},
		"a mistake is as it is": {text: "FROM scratch\nENV A=${B:?no}\n", want: map[string]string{"A": "${B:?no}"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _ := measure(t, c.text, c.args, c.from)
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%s is %q, want %q", k, got[k], v)
				}
			}
			if len(got) != len(c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestMeasures: what is counted.
func TestMeasures(t *testing.T) {
	t.Parallel()
	_, m := measure(t, "FROM scratch\nARG A=12345\nENV B=$A\nRUN true\nRUN true\nEXPOSE 80 8000-8001/tcp $A\n", nil, origin{})
	if m.ports != 4 {
		t.Errorf("%d ports", m.ports)
	}
	// Each RUN has A and B with their names, and A once more, in its history.
	if want := int64(2 * (6 + 6 + 6)); m.passed != want {
		t.Errorf("%d bytes are passed to processes, want %d", m.passed, want)
	}
	if m.expanded < 5 || m.visits == 0 {
		t.Errorf("expanded %d bytes in %d visits", m.expanded, m.visits)
	}
}

func TestLimitError(t *testing.T) {
	t.Parallel()
	err := &LimitError{File: "Dockerfile", Line: 3, reason: "too much"}
	if got := err.Error(); got != "Dockerfile:3: too much" {
		t.Error(got)
	}
	if got := at(&LimitError{Line: 3}, []parser.Range{{Start: parser.Position{Line: 9}}}).Line; got != 3 {
		t.Errorf("a known line becomes %d", got)
	}
	if got := at(&LimitError{}, nil).Line; got != 0 {
		t.Errorf("line %d of nowhere", got)
	}
}

// TestBrokenBaseImages: a config that cannot be read is for the compiler to report.
func TestBrokenBaseImages(t *testing.T) {
	t.Parallel()
	c := NewChecker(nil)
	if err := c.File("Dockerfile", []byte("FROM x\n")); err != nil {
		t.Error(err)
	}
	if err := c.Base([]byte("x")); err != nil {
		t.Error(err)
	}
	if err := c.Base([]byte(`{"config":{"Env":["A","=","B=1","B=22"],"OnBuild":["x","","RUN <<E"]}}`)); err != nil || c.env["B"] != "22" {
		t.Errorf("%v, %q", err, c.env)
	}
}
