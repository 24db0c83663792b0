package sandbox

import (
	"slices"
	"strings"
	"testing"
)

func TestParseInterpreter(t *testing.T) {
	long := "#!/bin/" + strings.Repeat("x", maxInterpreter)
	for line, want := range map[string][]string{
		"#!/bin/sh\necho":              {"/bin/sh"},
		"#!/bin/sh":                    {"/bin/sh"},
		"#! \t/bin/sh \t\n":            {"/bin/sh"},
		"#!/usr/bin/env -S a  b \nx":   {"/usr/bin/env", "-S a  b"},
		"#!/bin/sh\t-e\n":              {"/bin/sh", "-e"},
		"#!/bin/sh\r\n":                {"/bin/sh\r"},
		"#!sh\n":                       nil,
		"#!\n":                         nil,
		"#!/bin/\x00sh\n":              nil,
		"\x7fELF":                      nil,
		"":                             nil,
		long[:maxInterpreter]:          nil,
		long[:maxInterpreter-2] + "\n": {long[2 : maxInterpreter-2]},
	} {
		if got := parseInterpreter([]byte(line)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
