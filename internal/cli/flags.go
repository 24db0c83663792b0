package cli

import (
	"errors"
	"strings"
)

// filterFlag collects --filter name=value.
type filterFlag []string

func (f *filterFlag) String() string { return strings.Join(*f, ",") }

// Type is what the help calls a value.
func (f *filterFlag) Type() string { return "filter" }

// Set adds a condition.
func (f *filterFlag) Set(value string) error {
	if !strings.Contains(value, "=") {
		return errors.New("bad format of filter (expected name=value)")
	}
	*f = append(*f, value)
	return nil
}
