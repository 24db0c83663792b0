package runtimespec

import (
	"slices"

	"golang.org/x/sys/unix"
)

// ProcessCapabilities returns the numbers of the capabilities of a process, for a process that no runtime starts.
func (o *Options) ProcessCapabilities() ([]uint, error) {
	names, err := o.capabilities()
	if err != nil {
		return nil, err
	}
	numbers := make([]uint, 0, len(names))
	for _, name := range names {
		numbers = append(numbers, uint(slices.Index(allCapabilities, name)))
	}
	return numbers, nil
}

// Resource returns the number of a limit of setrlimit(2) by docker's name for it.
func Resource(name string) (int, bool) {
	n, ok := map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
		"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
		"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}[name]
	return n, ok
}
