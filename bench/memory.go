//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// resetPeak makes the kernel forget the peak memory of a process.
func resetPeak(pid int) {
	if pid != 0 {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}

// peak is the peak memory of a process that lives, in bytes.
func peak(pid int) int64 {
	if pid == 0 {
		return 0
	}
	return statusField(fmt.Sprintf("/proc/%d", pid), "VmHWM:")
}

func statusField(proc, name string) int64 {
	data, _ := os.ReadFile(filepath.Join(proc, "status"))
	for line := range bytes.Lines(data) {
		var kb int64
		if rest, ok := strings.CutPrefix(string(line), name); ok {
			_, _ = fmt.Sscanf(rest, "%d kB", &kb)
			return kb << 10
		}
	}
	return 0
}

// sampler looks at all processes of one program 50 times a second: what they have in memory together. It runs only while
// warming up, when nobody measures time.
type sampler struct {
	path       string
	quit, done chan struct{}
	most       int64
}

func (s *sampler) start() {
	s.quit, s.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-s.quit:
				return
			case <-tick.C:
				s.most = max(s.most, s.now())
			}
		}
	}()
}

// stop gives the most that was seen, 0 if it was not started.
func (s *sampler) stop() int64 {
	if s.quit == nil {
		return 0
	}
	close(s.quit)
	<-s.done
	return s.most
}

// now is the memory of the program's processes that is theirs alone, and once that of the program itself, which they share.
func (s *sampler) now() (total int64) {
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	var shared int64
	for _, exe := range exes {
		if target, _ := os.Readlink(exe); target == s.path {
			proc := filepath.Dir(exe)
			total += statusField(proc, "RssAnon:")
			shared = max(shared, statusField(proc, "RssFile:"))
		}
	}
	return total + shared
}
