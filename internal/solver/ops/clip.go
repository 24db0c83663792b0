package ops

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"
)

// logLimit is how much a step may print: bytes in all, and bytes a second. Less than 0 is no limit.
type logLimit struct{ size, speed int }

// stepLogLimit is BuildKit's, in BuildKit's variables (util/progress/logs).
func stepLogLimit() logLimit {
	l := logLimit{2 << 20, 200 << 10}
	for name, to := range map[string]*int{"BUILDKIT_STEP_LOG_MAX_SIZE": &l.size, "BUILDKIT_STEP_LOG_MAX_SPEED": &l.speed} {
		if n, err := strconv.ParseInt(os.Getenv(name), 10, 32); err == nil {
			*to = int(n)
		}
	}
	return l
}

// clippedTail is the length of the end of a clipped output that is shown when the step has ended, in bytes.
const clippedTail = 256 << 10

// clipper passes on the output of a step up to the limit, reports that it was clipped, and keeps its end.
type clipper struct {
	to       io.Writer
	limit    logLimit
	now      func() time.Time
	started  time.Time
	size     int
	clipping bool
	tail     []byte
	clipped  bool
}

// Clip returns a writer of the output of a process that is not a step, with the limits of one, and a function that writes the rest when the
// process has ended.
func Clip(to io.Writer) (w io.Writer, flush func()) {
	c := newClipper(to, stepLogLimit(), time.Now)
	return c, c.flush
}

func newClipper(to io.Writer, limit logLimit, now func() time.Time) *clipper {
	return &clipper{to: to, limit: limit, now: now, started: now()}
}

// Write does not fail at the limit: the process continues.
func (c *clipper) Write(p []byte) (int, error) {
	allowed, reason := c.allow(len(p))
	c.clipped = c.clipped || allowed < len(p)
	if c.clipped {
		c.keep(p)
	}
	out := p[:allowed:allowed]
	if c.clipping && allowed == len(p) {
		c.clipping = false
	}
	if !c.clipping && allowed < len(p) {
		out = fmt.Appendf(out, "\n[output clipped, log limit %s reached]\n", reason)
		c.clipping = true
	}
	if len(out) > 0 {
		if _, err := c.to.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// allow returns how many of n more bytes are within the limit, and the limit as text.
func (c *clipper) allow(n int) (int, string) {
	before := c.size
	c.size += n
	most, reason := c.limit.size, size(c.limit.size)
	if c.limit.speed >= 0 {
		now := int(math.Ceil(c.now().Sub(c.started).Seconds())) * c.limit.speed
		if most < 0 || now <= most {
			most, reason = now, size(c.limit.speed)+"/s"
		}
	}
	if most < 0 || c.size <= most {
		return n, reason
	}
	return max(0, most-before), reason
}

// keep remembers the last of what was written.
func (c *clipper) keep(p []byte) {
	c.tail = append(c.tail, p...)
	if len(c.tail) > 2*clippedTail {
		c.tail = append(c.tail[:0], c.tail[len(c.tail)-clippedTail:]...)
	}
}

// flush passes on the end of an output that was clipped.
func (c *clipper) flush() {
	if len(c.tail) > 0 {
		_, _ = c.to.Write(c.tail[max(0, len(c.tail)-clippedTail):])
		c.tail = nil
	}
}

// size is a number of bytes in the words of BuildKit's message.
func size(n int) string {
	for _, u := range []struct {
		bytes int
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.bytes {
			return strconv.FormatFloat(float64(n)/float64(u.bytes), 'g', 4, 64) + u.name
		}
	}
	return strconv.Itoa(n) + "B"
}
