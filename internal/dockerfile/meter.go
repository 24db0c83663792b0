package dockerfile

import (
	"maps"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// meter goes through a Dockerfile as the compiler does, and counts its work.
type meter struct {
	lex    *shell.Lex
	raw    *shell.Lex        // for heredocs, in which quotes have no meaning
	args   map[string]string // --build-arg
	global *scope
	stages map[string]*scope // by name and by number

	expanded, passed int64 // bytes
	visits, ports    int
}

func newMeter(escape rune, args map[string]string) *meter {
	raw := shell.NewLex('\\')
	raw.SkipProcessQuotes = true
	return &meter{lex: shell.NewLex(escape), raw: raw, args: args, global: newScope(), stages: map[string]*scope{}}
}

// scope holds the variables that an instruction sees.
type scope struct {
	vars map[string]string
	size int64 // bytes of them
	args int64 // bytes of all ARG, each time: RUN keeps them in its history
}

func newScope() *scope { return &scope{vars: map[string]string{}} }

func (s *scope) set(name, value string) {
	if old, ok := s.vars[name]; ok {
		s.size -= int64(len(name) + len(old))
	}
	s.vars[name] = value
	s.size += int64(len(name) + len(value))
}

// dockerfile counts all stages, whether they are built or not.
func (m *meter) dockerfile(stages []instructions.Stage, global []instructions.ArgCommand, from origin) *LimitError {
	for i := range global {
		if err := m.argument(m.global, &global[i]); err != nil {
			return at(err, global[i].Location())
		}
	}
	for i := range stages {
		if err := m.stage(i, &stages[i], from); err != nil {
			return at(err, stages[i].Location)
		}
	}
	return nil
}

// at adds the line at which a limit is exceeded, unless it is known.
func at(e *LimitError, where []parser.Range) *LimitError {
	if e.Line == 0 && len(where) > 0 {
		e.Line = where[0].Start.Line
	}
	return e
}

func (m *meter) stage(number int, st *instructions.Stage, from origin) *LimitError {
	name, err := m.expand(st.BaseName, m.global)
	if err == nil {
		_, err = m.expand(st.Platform, m.global)
	}
	if err != nil {
		return err
	}
	s := newScope()
	if parent, ok := m.stages[strings.ToLower(name)]; ok {
		s.vars, s.size, s.args = maps.Clone(parent.vars), parent.size, parent.args
	} else if err := m.based(s, from); err != nil {
		return err
	}
	if err := m.visit(stageVisits * len(s.vars)); err != nil {
		return err
	}
	for _, c := range st.Commands {
		if err := m.command(s, c); err != nil {
			return at(err, c.Location())
		}
	}
	m.stages[strconv.Itoa(number)] = s
	m.stages[strings.ToLower(st.Name)] = s
	return nil
}

// based adds the variables of base images to a stage.
func (m *meter) based(s *scope, from origin) *LimitError {
	for name, value := range from.env {
		s.set(name, value)
		if err := m.visit(len(s.vars)); err != nil {
			return err
		}
	}
	for _, c := range from.commands() {
		if err := m.command(s, c); err != nil {
			return err
		}
	}
	return nil
}

func (m *meter) visit(n int) *LimitError {
	if m.visits += n + 1; m.visits > maxVisits {
		return over("too many variables in too many instructions and stages")
	}
	return nil
}

func (m *meter) command(s *scope, c instructions.Command) *LimitError {
	if err := m.visit(len(s.vars)); err != nil {
		return err
	}
	if arg, ok := c.(*instructions.ArgCommand); ok {
		return m.argument(s, arg)
	}
	if err := m.expandAll(c, s); err != nil {
		return err
	}
	switch c := c.(type) {
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			s.set(kv.Key, kv.Value)
			if err := m.visit(len(s.vars)); err != nil {
				return err
			}
		}
	case *instructions.ExposeCommand:
		return m.expose(s, c.Ports)
	case *instructions.RunCommand:
		if m.passed += s.size + s.args; m.passed > maxPassed {
			return over("the variables of all RUN instructions together take more than %s", size(maxPassed))
		}
	}
	return nil
}

// argument sets the variables of one ARG, each of which sees those before it.
func (m *meter) argument(s *scope, c *instructions.ArgCommand) *LimitError {
	for _, arg := range c.Args {
		value, given := m.args[arg.Key]
		switch {
		case given:
		case arg.Value != nil:
			var err *LimitError
			if value, err = m.expand(*arg.Value, s); err != nil {
				return err
			}
		default:
			value = m.global.vars[arg.Key]
		}
		s.set(arg.Key, value)
		s.args += int64(len(arg.Key) + len(value))
		if err := m.visit(len(s.vars)); err != nil {
			return err
		}
	}
	return nil
}

// expose counts the ports of ranges such as 8000-9000/udp.
func (m *meter) expose(s *scope, words []string) *LimitError {
	for _, word := range words {
		text, err := m.expand(word, s)
		if err != nil {
			return err
		}
		for field := range strings.FieldsSeq(text) {
			m.ports += portsOf(field)
		}
		if m.ports > maxPorts {
			return over("EXPOSE of more than %d ports", maxPorts)
		}
	}
	return nil
}

func portsOf(text string) int {
	text, _, _ = strings.Cut(text, "/")
	text = text[strings.LastIndexByte(text, ':')+1:]
	first, last, _ := strings.Cut(text, "-")
	from, err := strconv.ParseUint(first, 10, 16)
	to, toErr := strconv.ParseUint(last, 10, 16)
	if err != nil || toErr != nil || to < from {
		return 1
	}
	return int(to-from) + 1
}
