package explain

import (
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile is what a Dockerfile says of its steps.
type dockerfile struct {
	Instructions map[int]string    `json:"instructions"` // by their first lines, with their here-documents
	Args         map[string]string `json:"args"`         // the build arguments that it declares, with their defaults as they are written
	Env          map[string]string `json:"env"`          // the variables that it sets, with their values as they are written
}

// parseDockerfile parses a Dockerfile. Of several values of one name, the last one counts. A text that is not a Dockerfile says nothing.
func parseDockerfile(text string) *dockerfile {
	d := &dockerfile{map[int]string{}, map[string]string{}, map[string]string{}}
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return d
	}
	unquoted := func(s string) string { return strings.Trim(s, `"'`) }
	for _, n := range parsed.AST.Children {
		text := n.Original
		for _, doc := range n.Heredocs {
			text += "\n" + doc.Content
		}
		d.Instructions[n.StartLine] = text
		switch strings.ToLower(n.Value) {
		case command.Arg:
			for arg := n.Next; arg != nil; arg = arg.Next {
				if name, value, ok := strings.Cut(arg.Value, "="); ok {
					d.Args[name] = unquoted(value)
				}
			}
		case command.Env: // a name, a value and the sign between them, three nodes each
			for at := n.Next; at != nil && at.Next != nil; {
				d.Env[at.Value] = unquoted(at.Next.Value)
				if at = at.Next.Next; at != nil {
					at = at.Next
				}
			}
		}
	}
	return d
}
