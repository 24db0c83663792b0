package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
)

// ExitError is returned for a process that ran and failed. Code is its exit code, or 128 + n for a signal n.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit code: %d", e.Code) }

// StartError is returned for a process that could not be started. Code is the exit code of a shell and of docker run: 127 if
// the command does not exist, 126 if it cannot be executed, CodeOther otherwise.
type StartError struct {
	Code   int
	Reason string
}

func (e *StartError) Error() string { return e.Reason }

// CodeOther is StartError.Code if the reason is not the command: a process has no such exit code of its own.
const CodeOther = 125

// Outcome returns the result of a runtime whose command has returned err: an ExitError for a process that failed, or a
// StartError if the runtime has logged that it could not start it.
func Outcome(err error, log io.ReaderAt) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("wait for process: %w", err)
	}
	if reason := runtimeError(log); reason != "" {
		return startError(reason)
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return &ExitError{128 + int(st.Signal())}
	}
	return &ExitError{exit.ExitCode()}
}

// leftCgroups is the prefix of runc's message about the cgroup of a process that has run, in a user namespace without a
// delegated cgroup.
const leftCgroups = "Failed to remove "

// maxLog bounds what is read of a runtime's log.
const maxLog = 1 << 20

// runtimeError returns the last error in a runtime's JSON log, or "".
func runtimeError(log io.ReaderAt) string {
	data, err := io.ReadAll(io.NewSectionReader(log, 0, maxLog))
	if err != nil {
		return ""
	}
	var reason string
	for line := range strings.SplitSeq(string(data), "\n") {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Level == "error" && !strings.HasPrefix(entry.Msg, leftCgroups) {
			reason = entry.Msg
		}
	}
	return reason
}

// noise are prefixes of the reason in messages of runtimes.
var noise = []string{
	"runc run failed: ", "runc create failed: ", "runc exec failed: ", "exec failed: ", "unable to start container process: ", "error during container init: ", "container_linux.go",
}

var (
	// crun: executable file `x` not found in $PATH: No such file or directory
	crunNotFound = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("^executable file `([^`]*)` not found") })
	// How crun quotes.
	backquoted = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("`([^`]*)`") })
	// Descriptors and flags in messages of runc, which do not help the user.
	runcDetails = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`( \(via /proc/[^)]*\)|, flags: 0x[0-9a-f]+|, data: [^ :]*)`)
	})
	quotedExec = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^exec: "`) })
)

// startError returns a runtime's error in Docker's wording and with Docker's exit code.
func startError(reason string) error {
	for _, prefix := range noise {
		reason = strings.TrimPrefix(reason, prefix)
	}
	reason = runcDetails().ReplaceAllString(strings.ReplaceAll(reason, "\n", " "), "")
	if m := crunNotFound().FindStringSubmatch(reason); m != nil {
		return &StartError{127, fmt.Sprintf("exec: %q: executable file not found in $PATH", m[1])}
	}
	reason = backquoted().ReplaceAllString(reason, `"$1"`)
	if at := strings.LastIndex(reason, ": "); at >= 0 {
		reason = reason[:at+2] + lowerFirst(reason[at+2:])
	}
	lower := strings.ToLower(reason)
	has := func(part string) bool { return strings.Contains(lower, part) }
	code := CodeOther
	switch {
	case has("executable file") && has("not found"), has("no such file or directory") && has("exec"):
		code = 127
	case (has("permission denied") || has("operation not permitted")) && has("exec"), has("is a directory"):
		code = 126
	}
	if !quotedExec().MatchString(reason) {
		reason = "OCI runtime create failed: " + reason
	}
	return &StartError{code, reason}
}
