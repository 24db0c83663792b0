//go:build e2e

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// seen is what a machine has had at once, at most.
type seen struct {
	used    int64 // memory, in bytes
	running int   // pods
}

// watch looks at the machine until the context ends.
func (s *simulation) watch(ctx context.Context) <-chan seen {
	c := make(chan seen, 1)
	before := field("/proc/meminfo", "MemAvailable:")
	go func() {
		var most seen
		for range ticks(ctx, time.Second) {
			most.used = max(most.used, before-field("/proc/meminfo", "MemAvailable:"))
			_, running := s.kubelets.counts()
			most.running = max(most.running, running)
		}
		c <- most
	}()
	return c
}

// field reads a line of a file of /proc, in bytes.
func field(path, name string) int64 {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		var kb int64
		if rest, ok := strings.CutPrefix(line, name); ok {
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				return kb << 10
			}
		}
	}
	return 0
}

// print prints a table.
func (s *simulation) print(builds int, took time.Duration, most seen, l *load, failed []error) {
	row := func(name, value string) { fmt.Printf("| %s | %s |\n", name, value) }
	kind := "builds"
	if s.connect {
		kind = "connections"
	}
	fmt.Printf("\n| | %d %s |\n|---|---|\n", builds, kind)
	row("all, at most that many pods at once", fmt.Sprintf("%s, %d", short(took), most.running))
	row("failed", fmt.Sprint(len(failed)))
	row("requests of a client to the API server", counts(l.clients, builds))
	row("refused, for each client", counts(l.refused, builds))
	row("writes of others for each build", counts(l.others, builds))
	row("requests to the registry for each build", counts(s.registry.counts, builds))
	row("answer to the dry run, median / most", spread(l.dryRun))
	row("answer to the creation of the Job", spread(l.create))
	bound, running := s.times(l)
	row("from the Job until its pod is bound", spread(bound))
	row("from the Job until its pod runs", spread(running))
	memory := []string{fmt.Sprintf("machine %d", most.used>>20), fmt.Sprintf("a client %d", s.clients.Load()>>20)}
	for _, cmd := range s.plane.Running() {
		memory = append(memory, fmt.Sprintf("%s %d", filepath.Base(cmd.Path), field(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid), "VmHWM:")>>20))
	}
	row("memory at most, MB", strings.Join(memory, ", "))
	for i, err := range failed {
		if i == 5 {
			break
		}
		fmt.Println(err)
	}
}

// times are how long pods took from the creation of their Jobs.
func (s *simulation) times(l *load) (bound, running []time.Duration) {
	s.kubelets.mu.Lock()
	defer s.kubelets.mu.Unlock()
	for _, p := range s.kubelets.pods {
		created, ok := l.created[p.job]
		if !ok {
			continue
		}
		bound = append(bound, p.bound.Sub(created))
		if !p.running.IsZero() {
			running = append(running, p.running.Sub(created))
		}
	}
	return bound, running
}
