package dockerfile

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// expandAll expands the words of an instruction that the compiler expands.
func (m *meter) expandAll(c instructions.Command, s *scope) *LimitError {
	by := func(lex *shell.Lex) instructions.SingleWordExpander {
		return func(word string) (string, error) {
			result, err := m.expandBy(lex, word, s)
			if err != nil {
				return "", err
			}
			return result, nil
		}
	}
	var err error
	if c, ok := c.(instructions.SupportsSingleWordExpansion); ok {
		err = c.Expand(by(m.lex))
	}
	if c, ok := c.(instructions.SupportsSingleWordExpansionRaw); ok && err == nil {
		err = c.ExpandRaw(by(m.raw))
	}
	var exceeded *LimitError
	errors.As(err, &exceeded) // the compiler reports all other errors
	return exceeded
}

// expand returns a word as the compiler expands it, unless the result is too long.
func (m *meter) expand(word string, s *scope) (string, *LimitError) {
	return m.expandBy(m.lex, word, s)
}

func (m *meter) expandBy(lex *shell.Lex, word string, s *scope) (string, *LimitError) {
	result := word
	if strings.ContainsRune(word, '$') {
		braces, replaced := depth(word)
		if braces > maxBraces {
			return "", over("variables are nested deeper than %d", maxBraces)
		}
		var ok bool
		if result, ok = process(lex, word, &variables{scope: s, literal: int64(len(word)), replaced: replaced}); !ok {
			return "", over("a value is longer than %s with its variables", size(maxValue))
		}
	}
	if m.expanded += int64(len(result)); m.expanded > maxExpanded {
		return "", over("all values together take more than %s", size(maxExpanded))
	}
	return result, nil
}

// process expands a word with the compiler's own code, and reports whether the length of the result is allowed. Only a panic in
// the lookup of a variable stops that code.
func process(lex *shell.Lex, word string, v *variables) (result string, ok bool) {
	defer func() {
		if stopped := recover(); stopped != nil {
			if stopped != errTooLong { //nolint:errorlint // itself
				panic(stopped)
			}
			result, ok = "", false
		}
	}()
	result, _, err := lex.ProcessWord(word, v)
	if err != nil {
		return word, true // if the compiler expands it, it reports the error
	}
	return result, len(result)-len(word) <= maxValue
}

var errTooLong = errors.New("value is too long")

// variables gives the lexer the values of a scope, until they take too many bytes.
type variables struct {
	scope    *scope
	literal  int64 // bytes of the word itself
	used     int64 // bytes of values
	replaced int   // depth of ${NAME/pattern/replacement}
}

// Get panics with errTooLong: a replacement takes the place of each byte of a value at most, and one more.
func (v *variables) Get(name string) (string, bool) {
	value, ok := v.scope.vars[name]
	v.used += int64(len(value))
	if v.used > maxValue {
		panic(errTooLong)
	}
	for i, n := 0, v.literal+v.used; i < v.replaced; i++ {
		if n *= v.used + 1; n > maxReplaced {
			panic(errTooLong)
		}
	}
	return value, ok
}

func (v *variables) Keys() []string { return slices.Collect(maps.Keys(v.scope.vars)) }

// depth returns the nesting depth of all ${…} in a word, and of those that replace.
func depth(word string) (braces, replaced int) {
	var open []bool // whether each replaces
	now := 0
	for i := 0; i < len(word); i++ {
		switch {
		case strings.HasPrefix(word[i:], "${"):
			name := strings.IndexFunc(word[i+2:], func(r rune) bool {
				return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
			})
			replaces := name >= 0 && word[i+2+name] == '/'
			open = append(open, replaces)
			if replaces {
				now++
			}
			braces, replaced = max(braces, len(open)), max(replaced, now)
			i++
		case word[i] == '}' && len(open) > 0:
			if open[len(open)-1] {
				now--
			}
			open = open[:len(open)-1]
		}
	}
	return braces, replaced
}
