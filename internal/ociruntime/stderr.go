package ociruntime

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

// Stderr forwards the stderr of a process, which is the runtime's as well, without the runtime's own messages about a
// process that it cannot start. The first output is held back for a moment: crun writes to stderr before it writes to its log,
// and then exits.
type Stderr struct {
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

// NewStderr returns the stderr of a runtime that executes command. It writes to to, or nowhere if that is nil.
func NewStderr(to io.Writer, log io.ReaderAt, command string) *Stderr {
	if to == nil {
		to = io.Discard
	}
	return &Stderr{to: to, log: log, command: command}
}

// execFailure is the prefix of the only message that crun writes after it has closed its log: that the kernel did not execute
// the process.
const execFailure = `{"msg":"exec container process `

// Write holds back the first output, and forwards the rest.
func (d *Stderr) Write(p []byte) (int, error) {
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
		d.timer = time.AfterFunc(heldTime, func() { _ = d.Flush() })
	}
	return len(p), nil
}

// Flush forwards the output that was held back.
func (d *Stderr) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	return d.release()
}

func (d *Stderr) release() error {
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
var execMessage = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("^exec container process .*`([^`]*)`: (.*)$") })

// asRunc returns the message of runc for one of crun's: "exec /x: exec format error".
func (d *Stderr) asRunc(line []byte) []byte {
	var entry struct{ Msg string }
	if json.Unmarshal(line, &entry) != nil {
		return append(line, '\n')
	}
	m := execMessage().FindStringSubmatch(entry.Msg)
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
