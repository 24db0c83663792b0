package containers

import (
	"context"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
)

// Top lists the processes of the container with ps of the host, as Docker does.
func (c *Container) Top(ctx context.Context, args string) (*container.TopResponse, error) {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return nil, fail(Conflict, "container %s is not running", c.ID)
	}
	if args == "" {
		args = "-ef"
	}
	fields := strings.Fields(args)
	if err := checkPS(fields); err != nil {
		return nil, err
	}
	pids := r.box.PIDs()
	if len(pids) == 0 {
		return nil, fail(Conflict, "container %s is not running", c.ID)
	}
	out, err := exec.CommandContext(ctx, "ps", fields...).CombinedOutput()
	if err != nil {
		return nil, fail(Kind(0), "error running ps: %w: %s", err, strings.TrimSpace(string(out)))
	}
	top, err := parsePS(string(out), pids)
	if err == nil {
		c.event(events.ActionTop)
	}
	return top, err
}

// pidColumn matches what comes before the title of a column of ps that has IDs of processes.
var pidColumn = regexp.MustCompile(`(^|,|^-[a-zA-Z]*o)pid$`)

// checkPS refuses to give another column the title of the one that says which processes are the container's: those of the host would be shown.
// The words are those of Docker's engine.
func checkPS(args []string) error {
	for _, arg := range args {
		column, title, ok := strings.Cut(strings.TrimPrefix(arg, "--format="), "=")
		if ok && strings.Contains(title, "PID") && !pidColumn.MatchString(column) {
			return fail(Kind(0), "specifying %q is not allowed", column+"="+title)
		}
	}
	return nil
}

// parsePS picks the lines of some processes.
func parsePS(out string, pids []int) (*container.TopResponse, error) {
	lines := strings.Split(out, "\n")
	top := &container.TopResponse{Titles: strings.Fields(lines[0])}
	column := -1
	for i, title := range top.Titles {
		if title == "PID" {
			column = i
		}
	}
	if column < 0 {
		return nil, fail(Invalid, "Couldn't find PID field in ps output")
	}
	wanted := map[string]bool{}
	for _, pid := range pids {
		wanted[strconv.Itoa(pid)] = true
	}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) <= column || !wanted[fields[column]] {
			continue
		}
		n := len(top.Titles)
		if len(fields) > n { // the command has spaces
			fields = append(fields[:n-1:n-1], strings.Join(fields[n-1:], " "))
		}
		top.Processes = append(top.Processes, fields)
	}
	return top, nil
}
