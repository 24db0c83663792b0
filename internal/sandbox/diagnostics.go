package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// diagnostics forwards the stderr of a process, which is the runtime's as well, without the runtime's own messages about a
// process that it cannot start. The first output is held back for a moment: crun writes to stderr before it writes to its log,
// and then exits.
type diagnostics struct {
	to      io.Writer
	log     io.ReaderAt // the runtime's
	command string      // as it was written

	mu     sync.Mutex
	held   []byte
	timer  *time.Timer
	passes bool
}

// heldTime and heldSize bound what is held back.
const (
	heldTime = 50 * time.Millisecond
	heldSize = 64 << 10
)

// execFailure is the prefix of the only message that crun writes after it has closed its log: that the kernel did not execute
// the process.
const execFailure = `{"msg":"exec container process `

func (d *diagnostics) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passes {
		return d.to.Write(p)
	}
	d.held = append(d.held, p...)
	switch {
	case len(d.held) > heldSize:
		return len(p), d.release()
	case d.timer == nil:
		d.timer = time.AfterFunc(heldTime, func() { _ = d.flush() })
	}
	return len(p), nil
}

// flush forwards the output that was held back.
func (d *diagnostics) flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	return d.release()
}

func (d *diagnostics) release() error {
	held := d.held
	d.held, d.passes = nil, true
	if len(held) == 0 || runtimeError(d.log) != "" {
		return nil
	}
	if line, rest, ok := bytes.Cut(held, []byte("\n")); ok && bytes.HasPrefix(line, []byte(execFailure)) {
		held = append(d.asRunc(line), rest...)
	}
	_, err := d.to.Write(held)
	return err
}

// execMessage matches crun's message about a file that the kernel does not execute: its path and the reason.
var execMessage = regexp.MustCompile("^exec container process .*`([^`]*)`: (.*)$")

// asRunc returns the message of runc for one of crun's: "exec /x: exec format error".
func (d *diagnostics) asRunc(line []byte) []byte {
	var entry struct{ Msg string }
	if json.Unmarshal(line, &entry) != nil {
		return append(line, '\n')
	}
	m := execMessage.FindStringSubmatch(entry.Msg)
	if m == nil {
		return append([]byte(entry.Msg), '\n')
	}
	name := m[1]
	if strings.Contains(d.command, "/") {
		name = d.command
	}
	return fmt.Appendf(nil, "exec %s: %s\n", name, lowerFirst(m[2]))
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
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
	"runc run failed: ", "runc create failed: ", "unable to start container process: ", "error during container init: ", "container_linux.go",
}

var (
	// crun: executable file `x` not found in $PATH: No such file or directory
	crunNotFound = regexp.MustCompile("^executable file `([^`]*)` not found")
	// How crun quotes.
	backquoted = regexp.MustCompile("`([^`]*)`")
	// Descriptors and flags in messages of runc, which do not help the user.
	runcDetails = regexp.MustCompile(`( \(via /proc/[^)]*\)|, flags: 0x[0-9a-f]+|, data: [^ :]*)`)
	quotedExec  = regexp.MustCompile(`^exec: "`)
)

// startError returns a runtime's error in Docker's wording and with Docker's exit code.
func startError(reason string) error {
	for _, prefix := range noise {
		reason = strings.TrimPrefix(reason, prefix)
	}
	reason = runcDetails.ReplaceAllString(strings.ReplaceAll(reason, "\n", " "), "")
	if m := crunNotFound.FindStringSubmatch(reason); m != nil {
		return &StartError{127, fmt.Sprintf("exec: %q: executable file not found in $PATH", m[1])}
	}
	reason = backquoted.ReplaceAllString(reason, `"$1"`)
	if at := strings.LastIndex(reason, ": "); at >= 0 {
		reason = reason[:at+2] + lowerFirst(reason[at+2:])
	}
	lower := strings.ToLower(reason)
	has := func(part string) bool { return strings.Contains(lower, part) }
	code := 125
	switch {
	case has("executable file") && has("not found"), has("no such file or directory") && has("exec"):
		code = 127
	case (has("permission denied") || has("operation not permitted")) && has("exec"), has("is a directory"):
		code = 126
	}
	if !quotedExec.MatchString(reason) {
		reason = "OCI runtime create failed: " + reason
	}
	return &StartError{code, reason}
}
