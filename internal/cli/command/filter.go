package command

import (
	"errors"
	"strings"
)

// FilterFlag collects --filter name=value.
type FilterFlag []string

func (f *FilterFlag) String() string { return strings.Join(*f, ",") }

// Type is what the help calls a value.
func (f *FilterFlag) Type() string { return "filter" }

// Set adds a condition.
func (f *FilterFlag) Set(value string) error {
	if !strings.Contains(value, "=") {
		return errors.New("bad format of filter (expected name=value)")
	}
	*f = append(*f, value)
	return nil
}
