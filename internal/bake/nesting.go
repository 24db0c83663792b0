package bake

import (
	"encoding/json"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxNesting is the allowed depth of nested brackets, templates and operators. The parser and the evaluator recurse for each, and
// a process whose stack is full cannot recover.
const maxNesting = 1000

// checkNesting returns an error for a file of HCL that is nested too deeply.
func checkNesting(f File) error {
	tokens, _ := hclsyntax.LexConfig(f.Data, f.Name, hcl.InitialPos) // the parser reports other mistakes
	return tooDeep(f.Name, tokens)
}

// checkNestingJSON is checkNesting of JSON, the strings of which are templates.
func checkNestingJSON(f File) error {
	depth, line, begin := 0, 1, -1
	for i := 0; i < len(f.Data); i++ {
		switch b := f.Data[i]; {
		case begin >= 0 && b == '\\':
			i++
		case b == '"' && begin < 0:
			begin = i
		case b == '"':
			var text string
			if json.Unmarshal(f.Data[begin:i+1], &text) == nil {
				tokens, _ := hclsyntax.LexTemplate([]byte(text), f.Name, hcl.Pos{Line: line, Column: 1})
				if err := tooDeep(f.Name, tokens); err != nil {
					return err
				}
			}
			begin = -1
		case b == '\n':
			line++
		case begin < 0 && (b == '[' || b == '{'):
			if depth++; depth > maxNesting {
				return nestingError(f.Name, line)
			}
		case begin < 0 && (b == ']' || b == '}'):
			depth--
		}
	}
	return nil
}

func nestingError(name string, line int) error {
	return fmt.Errorf("%s:%d: nested deeper than %d levels", name, line, maxNesting)
}

// nest is the position of a token in its brackets.
type nest struct {
	depth int
	open  []bracket
}

// bracket is one that has not ended. Its operators are those since its last element began: 1+1+1 is an expression in an
// expression, and so is a[0][0].
type bracket struct {
	kind      hclsyntax.TokenType
	operators int
}

// tooDeep returns an error for tokens that are nested too deeply.
func tooDeep(name string, tokens hclsyntax.Tokens) error {
	n := nest{open: []bracket{{kind: hclsyntax.TokenOBrace}}} // a body is in braces, but for that of the file
	for _, t := range tokens {
		n.token(t.Type)
		if n.depth > maxNesting {
			return nestingError(name, t.Range.Start.Line)
		}
	}
	return nil
}

func (n *nest) token(t hclsyntax.TokenType) {
	last := &n.open[len(n.open)-1]
	switch t {
	case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc,
		hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
		n.open = append(n.open, bracket{kind: t})
		n.depth++
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc,
		hclsyntax.TokenTemplateSeqEnd:
		n.end(last.kind)
	case hclsyntax.TokenComma:
		n.element(last)
	case hclsyntax.TokenNewline:
		if last.kind == hclsyntax.TokenOBrace {
			n.element(last)
		}
	default:
		if isOperator(t) {
			last.operators++
			n.depth++
		}
	}
}

// element begins another element of a bracket.
func (n *nest) element(in *bracket) {
	n.depth -= in.operators
	in.operators = 0
}

// end leaves a bracket. Unless it is a text, it is an operand of what follows.
func (n *nest) end(kind hclsyntax.TokenType) {
	n.element(&n.open[len(n.open)-1])
	if len(n.open) == 1 {
		return // it was never opened
	}
	n.open = n.open[:len(n.open)-1]
	switch kind {
	case hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenTemplateControl:
		n.open[len(n.open)-1].operators++
	default:
		n.depth--
	}
}

func isOperator(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenPlus, hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent,
		hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenQuestion, hclsyntax.TokenDot,
		hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq:
		return true
	}
	return false
}
