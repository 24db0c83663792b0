package fakeroot

import (
	"bytes"
	"os"
	"strconv"
)

// status returns a field of /proc/PID/status, whose number has a base.
func status(pid int, name string, base int) (int, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, false
	}
	return field(text, name, base)
}

// field returns a number of a file of /proc.
func field(text []byte, name string, base int) (int, bool) {
	_, rest, _ := bytes.Cut(text, []byte("\n"+name+":\t"))
	value, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.ParseUint(string(value), base, 31)
	return int(n), err == nil
}

// umask returns that of the process.
func (c *call) umask() uint32 {
	if mask, ok := status(c.process(), "Umask", 8); ok {
		return uint32(mask)
	}
	return 0o022
}

// threadGroup returns the process that a thread belongs to.
func threadGroup(tid int) (int, bool) { return status(tid, "Tgid", 10) }
