package container

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/sandbox"
)

func TestShells(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"none":             {nil, "[[/bin/sh] [/bin/bash] [/busybox/sh]]"},
		"the usual one":    {[]string{"/bin/sh", "-c", "make"}, "[[/bin/sh] [/bin/bash] [/busybox/sh]]"},
		"bash":             {[]string{"/bin/bash", "-o", "pipefail", "-c", "make"}, "[[/bin/bash] [/bin/sh] [/busybox/sh]]"},
		"on PATH":          {[]string{"zsh", "-c", "make"}, "[[zsh] [/bin/sh] [/bin/bash] [/busybox/sh]]"},
		"an applet":        {[]string{"/busybox", "sh", "-c", "make"}, "[[/busybox sh] [/bin/sh] [/bin/bash] [/busybox/sh]]"},
		"another applet":   {[]string{"/busybox", "ls"}, "[[/bin/sh] [/bin/bash] [/busybox/sh]]"},
		"a program":        {[]string{"/refresh", "all"}, "[[/bin/sh] [/bin/bash] [/busybox/sh]]"},
		"an interpreter":   {[]string{"/usr/bin/python3", "-c", "print()"}, "[[/bin/sh] [/bin/bash] [/busybox/sh]]"},
		"busybox, nothing": {[]string{"/busybox"}, "[[/bin/sh] [/bin/bash] [/busybox/sh]]"},
	} {
		if got := fmt.Sprint(Shells(c.args)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestRunShell: the first shell that exists is run, a command by it, and a JSON array without one.
func TestRunShell(t *testing.T) {
	t.Parallel()
	missing := &ociruntime.StartError{Code: 127, Reason: "not found"}
	for name, c := range map[string]struct {
		exists  []string // shells
		err     error    // of a command that was started
		command string
		want    string // that was run
		wantErr string
	}{
		"a shell":              {[]string{"/bin/sh", "/bin/bash"}, nil, "", "[/bin/sh]", ""},
		"the second":           {[]string{"/bin/bash"}, nil, "", "[/bin/bash]", ""},
		"none":                 {nil, nil, "", "[]", "there is no shell (/bin/sh, /bin/bash, /busybox/sh)"},
		"a command":            {[]string{"/bin/bash"}, nil, "ls *", "[/bin/bash -c ls *]", ""},
		"a command, no shell":  {nil, nil, "ls", "[]", "there is no shell (/bin/sh, /bin/bash, /busybox/sh)"},
		"arguments":            {[]string{"/app", "/bin/sh"}, nil, `["/app", "a b"]`, "[/app a b]", ""},
		"arguments, missing":   {[]string{"/bin/sh"}, nil, `["/app"]`, "[]", "not found"},
		"no arguments":         {[]string{"/bin/sh"}, nil, `[]`, "[/bin/sh -c []]", ""},
		"no array of strings":  {[]string{"/bin/sh"}, nil, `[ -e /x ]`, "[/bin/sh -c [ -e /x ]]", ""},
		"a failure":            {[]string{"/bin/sh", "/bin/bash"}, &ociruntime.ExitError{Code: 127}, "", "[/bin/sh]", "exit code: 127"},
		"it cannot be started": {[]string{"/bin/sh", "/bin/bash"}, &ociruntime.StartError{Code: 126, Reason: "denied"}, "", "[/bin/sh]", "denied"},
	} {
		var ran []string
		run := func(_ context.Context, p *sandbox.Process) error {
			if !slices.Contains(c.exists, p.Args[0]) {
				return missing
			}
			ran = slices.Clone(p.Args)
			return c.err
		}
		got := ""
		if err := RunShell(t.Context(), run, &sandbox.Process{}, Shells(nil), c.command); err != nil {
			got = err.Error()
			var none *NoShellError
			if errors.As(err, &none) != (c.exists == nil) {
				t.Errorf("%s: %T", name, err)
			}
		}
		if fmt.Sprint(ran) != c.want || got != c.wantErr {
			t.Errorf("%s: %v, %q, want %s, %q", name, ran, got, c.want, c.wantErr)
		}
	}
}
