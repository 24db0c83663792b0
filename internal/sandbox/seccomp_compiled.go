package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// compiledFilters remembers filters as the kernel takes them. crun needs two thirds of the time in which it starts a
// process to compile one.
type compiledFilters struct {
	mu    sync.Mutex
	asked map[string]int    // by the filter's JSON, how often it had to be compiled
	known map[string]string // the program, as the annotation takes it
}

// The annotation with which crun takes a compiled filter in place of the specification's, which it ignores then, and the
// name of the file in a container's state in which it has the one that it compiled (crun(1)).
const (
	compiledAnnotation = "run.oci.seccomp_bpf_data"
	compiledFile       = "seccomp.bpf"
)

// prepare has crun load the filter of s as it was compiled before. For a filter that is wanted a second time it has the
// compiled form copied to dir, and gives a function that remembers it when the process has ended.
func (c *compiledFilters) prepare(s *specs.Spec, dir string) (remember func()) {
	data, err := json.Marshal(s.Linux.Seccomp)
	if err != nil || s.Linux.Seccomp == nil {
		return func() {}
	}
	key := string(data)
	c.mu.Lock()
	defer c.mu.Unlock()
	if program, ok := c.known[key]; ok {
		s.Annotations = map[string]string{compiledAnnotation: program}
		return func() {}
	}
	if c.asked == nil {
		c.asked, c.known = map[string]int{}, map[string]string{}
	}
	// Not the first time: the hook starts this program, which what runs one process would pay for nothing.
	if c.asked[key]++; c.asked[key] != 2 {
		return func() {}
	}
	copied := filepath.Join(dir, compiledFile)
	// The file is whole when the process has started, and is gone when it has ended.
	if s.Hooks == nil {
		s.Hooks = &specs.Hooks{}
	}
	s.Hooks.Poststart = append(s.Hooks.Poststart, specs.Hook{
		Path: "/proc/1/exe", Args: []string{keepName, filepath.Join(dir, "state", containerID, compiledFile), copied},
	})
	return func() { c.remember(key, copied) }
}

func (c *compiledFilters) remember(key, file string) {
	program, err := os.ReadFile(file)
	if err != nil || len(program) == 0 || len(program)%8 != 0 { // struct sock_filter
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[key] = base64.StdEncoding.EncodeToString(program)
}

// keepName is argv[0] of the hook that copies a compiled filter: this program, which the pid namespace's first process is
// as well.
const keepName = "mica-keep-filter"

// keepMain copies a file to a new one. It fails without a word: then the filter is compiled again. crun ends the process if
// it cannot write the container's state to the hook.
func keepMain(from, to string) {
	_, _ = io.Copy(io.Discard, os.Stdin)
	in, err := os.Open(from)
	if err != nil {
		return
	}
	out, err := os.OpenFile(to+".part", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	if _, err := io.Copy(out, in); err == nil && out.Close() == nil {
		_ = os.Rename(to+".part", to)
	}
}
