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

// diagnostics passes on what a process writes to its stderr, which is the runtime's as well, without what the runtime
// itself says there of a process that it cannot start. What comes first is held back for a moment: crun writes to stderr
// before it writes to its log, and ends then.
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

// execFailure begins the only thing that crun says of the process after it has given up its log: that the kernel refused
// to execute it.
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

// flush passes on what was held back.
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
		held = append(d.inWordsOfRunc(line), rest...)
	}
	_, err := d.to.Write(held)
	return err
}

// execMessage is what crun says of a file that the kernel does not execute: its path and the reason.
var execMessage = regexp.MustCompile("^exec container process .*`([^`]*)`: (.*)$")

// inWordsOfRunc is runc's line for one of crun's: "exec /x: exec format error".
func (d *diagnostics) inWordsOfRunc(line []byte) []byte {
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

// leftCgroups begins what runc says of the cgroup of a process that has run, in a user namespace where it can make none.
const leftCgroups = "Failed to remove "

// maxLog bounds what is read of a runtime's log.
const maxLog = 1 << 20

// runtimeError is the last error in a runtime's JSON log.
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

// noise begins what runtimes say before the reason.
var noise = []string{
	"runc run failed: ", "runc create failed: ", "unable to start container process: ", "error during container init: ", "container_linux.go",
}

var (
	// crun: executable file `x` not found in $PATH: No such file or directory
	crunNotFound = regexp.MustCompile("^executable file `([^`]*)` not found")
	// crun's way to quote.
	backquoted = regexp.MustCompile("`([^`]*)`")
	// Of runc, which names descriptors and flags that say nothing to the user.
	runcDetails = regexp.MustCompile(`( \(via /proc/[^)]*\)|, flags: 0x[0-9a-f]+|, data: [^ :]*)`)
	quotedExec  = regexp.MustCompile(`^exec: "`)
)

// startError is a runtime's reason in Docker's words, with Docker's exit code.
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
	said := strings.ToLower(reason)
	has := func(part string) bool { return strings.Contains(said, part) }
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
