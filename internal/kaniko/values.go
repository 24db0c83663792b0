package kaniko

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// list is a flag that may be repeated, whose values may have commas. check may refuse one.
type list struct {
	values *[]string
	check  func(string) error
}

func (l *list) String() string { return "" }

// Type is the name of a value in the help.
func (l *list) Type() string { return "value" }

// Set adds a value.
func (l *list) Set(value string) error {
	if l.check != nil {
		if err := l.check(value); err != nil {
			return err
		}
	}
	*l.values = append(*l.values, value)
	return nil
}

func keyValue(value string) error {
	if !strings.Contains(value, "=") {
		return fmt.Errorf("invalid argument value. expect key=value, got %s", value)
	}
	return nil
}

// choice is a flag whose values are known.
type choice struct {
	value *string
	of    []string
}

func newChoice(value *string, unset string, of ...string) *choice {
	*value = unset
	return &choice{value, of}
}

func (c *choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

// Type is the name of a value in the help.
func (c *choice) Type() string { return "string" }

// Set checks and takes a value.
func (c *choice) Set(value string) error {
	if !slices.Contains(c.of, value) {
		return fmt.Errorf("must be one of %s", strings.Join(c.of, ", "))
	}
	*c.value = value
	return nil
}

// Git are the options of a context that is a git repository.
type Git struct {
	Branch          string
	InsecureSkipTLS bool
}

func (g *Git) String() string { return "" }

// Type is the name of a value in the help.
func (g *Git) Type() string { return "key=value" }

// Set takes one option. mica fetches the commit alone and its submodules always.
func (g *Git) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("invalid git flag, must be in the key=value format: " + text)
	}
	var err error
	switch key {
	case "branch":
		g.Branch = value
	case "insecure-skip-tls":
		g.InsecureSkipTLS, err = strconv.ParseBool(value)
	case "single-branch", "recurse-submodules":
		_, err = strconv.ParseBool(value)
	case "depth":
		_, err = strconv.Atoi(value)
	}
	return err
}
