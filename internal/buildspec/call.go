package buildspec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
)

// Call is a question that the front end answers instead of building. The zero value is a build.
type Call struct {
	Name         string // as the front end knows it: "lint", "outline" or "targets"; "" for a build
	JSON         bool
	IgnoreStatus bool
}

// UserName is the name of a call in --call.
func (c Call) UserName() string {
	if c.Name == "lint" {
		return "check"
	}
	return c.Name
}

// ParseCall reads --call: "build", "check", "outline" or "targets", with ",format=json" and ",ignorestatus=true".
func ParseCall(text string) (Call, error) {
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return Call{}, fmt.Errorf("invalid call %q: %w", text, err)
	}
	var c Call
	for i, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		switch {
		case i == 0 && !ok:
			c.Name = field
		case key == "format" && (value == "json" || value == "text"):
			c.JSON = value == "json"
		case key == "ignorestatus":
			if c.IgnoreStatus, err = strconv.ParseBool(value); err != nil {
				return Call{}, fmt.Errorf("invalid call %q: ignorestatus is true or false", text)
			}
		default:
			return Call{}, fmt.Errorf("invalid call %q: unknown field %q", text, field)
		}
	}
	switch c.Name {
	case "build":
		c.Name = ""
	case "check":
		c.Name = "lint"
	case "lint", "outline", "targets":
	default:
		return Call{}, fmt.Errorf("unknown call %q: use build, check, outline or targets", c.Name)
	}
	return c, nil
}
